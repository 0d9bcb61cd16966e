"""What is told about a swarm's quality before it is made comes from a table that a command of the lab makes."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from p2prec.data.synthetic import synthetic_histories
from p2prec.lab import private_quality
from p2prec.privacy.expected_quality import Row, Table, expected, table


@pytest.mark.parametrize(
    ("people", "epsilon", "measured", "optimistic"),
    [
        (53, 8.0, (60, 8.0), True),
        (60, 8.0, (60, 8.0), False),
        (199, 7.9, (100, 4.0), False),
        (200, 20.0, (200, 8.0), False),
        (5000, 1.0, (943, 1.0), False),
        (5000, 0.9, (943, 1.0), True),
    ],
)
def test_what_is_expected_was_measured_on_no_larger_swarm_and_no_weaker_promise(
    people: int, epsilon: float, measured: tuple[int, float], optimistic: bool
) -> None:
    found = expected(people, epsilon)
    assert (found.row.people, found.row.epsilon) == measured
    assert found.is_optimistic is optimistic


def test_the_shipped_table_has_every_size_and_epsilon() -> None:
    rows = table().rows
    assert {(row.people, row.epsilon) for row in rows} == {
        (people, epsilon) for people in private_quality.SIZES for epsilon in private_quality.EPSILONS
    }
    assert all(0 < row.ndcg_at_10 < 1 and row.draws >= 10 for row in rows)


def test_a_verdict_needs_two_standard_errors() -> None:
    row = Row(people=60, epsilon=8.0, ndcg_at_10=0.05, popularity_ndcg_at_10=0.04, gain_standard_error=0.004, draws=9)
    assert row.verdict == "better"
    assert msgspec.structs.replace(row, gain_standard_error=0.006).verdict == "same"
    assert msgspec.structs.replace(row, ndcg_at_10=0.02).verdict == "worse"


def test_the_lab_makes_a_table_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_quality, "SIZES", (60, 90))
    monkeypatch.setattr(private_quality, "EPSILONS", (1.0, 20.0))
    monkeypatch.setattr(private_quality, "draws", lambda n_people: 2)
    monkeypatch.setattr(private_quality, "synthetic_histories", lambda *_: synthetic_histories(120, 40, 0))
    private_quality.main(["-o", str(tmp_path / "table.json")])
    found = msgspec.json.decode((tmp_path / "table.json").read_bytes(), type=Table)
    assert [(row.people, row.epsilon) for row in found.rows] == [(60, 1.0), (60, 20.0), (90, 1.0), (90, 20.0)]
    assert found.rows[1].ndcg_at_10 > found.rows[0].ndcg_at_10  # less noise
    again = private_quality.table(synthetic_histories(120, 40, 0), "x", (60,), (20.0,))
    assert again["rows"][0] == json.loads((tmp_path / "table.json").read_text())["rows"][1]  # a function of its seeds
