"""The table of the user side: folds that never look ahead, and figures that the rows' settings decide."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from lab_people import crowd

from p2prec.lab.config import LabConfig
from p2prec.lab.dataset import person_of_row
from p2prec.lab.user_side import figures, last_ones, main


def test_folds_go_back_in_time_and_never_look_ahead() -> None:
    histories = crowd()
    folds = list(last_ones(histories, 3, 0))
    for parts in folds:
        owner = person_of_row(parts.train)
        latest = [parts.train.times[owner == person].max() for person in range(len(parts.train))]
        assert (parts.test.times >= np.array(latest)).all()
        assert len(parts.test.items) == len(parts.train)
    for later, earlier in itertools.pairwise(folds):
        assert len(earlier.train.items) + len(earlier.test.items) <= len(later.train.items)


def test_rows_differ_by_their_settings_alone() -> None:
    (parts,) = last_ones(crowd(40, 60), 1, 0)
    equal, again, recent = (
        figures(parts, changes, ["learning.n_factors=4"], 5, 0)
        for changes in ({"recency_floor": 1.0}, {"recency_floor": 1.0}, {"recency_floor": 0.0})
    )
    assert equal.tolist() == again.tolist() != recent.tolist()
    assert ((equal >= 0) & (equal <= 1)).all()


def test_the_table_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    histories = crowd(30, 40)
    rows = zip(person_of_row(histories), histories.items, histories.times, strict=True)
    lines = [f"u{person},i{item},5,{time}" for person, item, time in rows]
    (tmp_path / "ratings.csv").write_text("user,item,rating,timestamp\n" + "\n".join(lines) + "\n")
    main(["--data", str(tmp_path), "--rows", "equal", "both", "--folds", "2", "--rounds", "2", "--people", "20"])
    printed = capsys.readouterr().out.splitlines()
    assert "20 people, 2 folds of the training part" in printed[0]
    assert [line.split()[0] for line in printed[-2:]] == ["equal", "both"]
    main(["--data", str(tmp_path), "--rows", "both", "--test", "--rounds", "2", "--set", "learning.n_factors=3"])
    printed = capsys.readouterr().out.splitlines()
    assert "the test part; settings learning.n_factors=3" in printed[0] and "(" not in printed[-1]


def test_what_is_not_the_next_interaction_is_asked_for_with_all_alike() -> None:
    assert LabConfig(data="-", split="last").learning_parameters().recency_floor < 1
    assert LabConfig(data="-", split="random").learning_parameters().recency_floor == 1
    asked = LabConfig(data="-", split="random", learning={"recency_floor": 0.5})
    assert asked.learning_parameters().recency_floor == 0.5
