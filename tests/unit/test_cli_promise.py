"""A swarm with a promise at the command line: made, refused, explained, spent and forgotten, in words that can be held to."""

from __future__ import annotations

import importlib
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from p2prec import manifest as manifests
from p2prec.api.privacy import privacy_report
from p2prec.cli.app import app
from p2prec.cli.promise_text import expectation, meaning
from p2prec.cli.swarm_promise import start_time
from p2prec.daemon.history import History
from p2prec.daemon.promise import PromiseKeeper
from p2prec.daemon.sum_ledger import SumLedger
from p2prec.daemon.sum_notes import SumNote, save_notes
from p2prec.daemon.sum_results import SumResults
from p2prec.errors import UsageError
from p2prec.model.pairs import expected_popularity, n_pairs, pair_statistic, popularity_of, popularity_statistic, select
from p2prec.peer.sum_outcome import SumOutcome
from p2prec.privacy.expected_quality import expected
from p2prec.storage.state import StateDirectory

N_ITEMS = 12
CATALOGUE = "item,title\n" + "".join(f"{n},Film {n}\n" for n in range(N_ITEMS))
CREATE = ("swarm", "create", "club", "--catalogue", "films.csv", "--epsilon", "8", "--people", "200")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PREC_STATE", str(tmp_path / "state"))
    Path("films.csv").write_text(CATALOGUE)
    for name in ("swarm", "log", "forget", "privacy", "status", "recommend", "similar"):
        importlib.import_module(f"p2prec.cli.{name}")
    return tmp_path


@pytest.fixture
def directory(folder: Path) -> StateDirectory:
    """A member's, who has logged four films."""
    assert run(*CREATE).exit_code == 0
    assert run("swarm", "join", "club.invite").exit_code == 0
    for film in ("0", "1", "2", "3"):
        assert run("log", film).exit_code == 0
    return StateDirectory.open(folder / "state")


def answer(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0
    return json.loads(done.stdout)


# swarm create


def test_create_says_what_is_promised_to_whom_when_and_what_to_expect() -> None:
    done = run(*CREATE, "--start-in", "2h")
    assert done.exit_code == 0
    said = done.stdout
    assert "epsilon 8 (delta 1e-05) for everything you ever did together" in said
    assert "2,981 times less likely without your history" in said
    assert "even with 3 of your device's mask partners" in said
    assert "200 people" in said
    assert "NDCG@10 .106 against .066 by popularity among 200 people at epsilon 8 (MovieLens-100K)" in said
    assert len(re.findall(r"Sum [12]  +\d{4}-\d\d-\d\d \d\d:\d\d to", said)) == 2
    manifest = manifests.load(Path("club.toml"))
    assert manifest.promise is not None
    assert (manifest.promise.epsilon, manifest.promise.delta, manifest.promise.n_people) == (8.0, 1e-5, 197)
    assert abs(manifest.promise.start - time.time() - 7200) < 60
    assert manifest.is_private
    assert Path("club.invite").exists()
    assert answer("swarm", "show", "club.toml")["promise"]["people_needed"] == 200
    assert "what is popular" in run("swarm", "show", "club.toml").stdout


def test_it_says_so_where_a_promise_costs_all_quality() -> None:
    done = run(*CREATE[:-1], "60", "--delta", "0.00001")
    assert "no better than popularity" in done.stdout
    assert "expect less here" in run(*CREATE[:-1], "53", "--force").stdout
    assert "no better than popularity" in expectation(expected(100, 1.0))
    assert expectation(expected(200, 8.0)).startswith("better than a list")


def test_a_small_epsilon_is_explained_without_a_warning() -> None:
    assert meaning(1.0).endswith("at most 2.7 times less likely without your history")
    assert "certainty does not" in meaning(8.0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--people", "52"], "at least 53"),
        (["--epsilon", "0"], "epsilon must be above 0"),
        (["--epsilon", "20.5"], "at most 20"),
        (["--epsilon", "nan"], "epsilon"),
        (["--delta", "0.01"], "delta must be below 1/197"),
        (["--objective", "explicit"], "cannot be combined with --objective explicit"),
        (["--noise-multiplier", "4"], "cannot be combined with --noise-multiplier"),
        (["--epsilon-budget", "4"], "cannot be combined with --epsilon-budget"),
        (["--n-factors", "4"], "cannot be combined with --n-factors"),
        (["--start-in", "soon"], "expected a number"),
        (["--start-in", "0m"], "in the future"),
        (["--start-in", "400d"], "within a year"),
        (["--start", "2001-01-01"], "in the future"),
        (["--start", "tomorrow"], "expected a date"),
        (["--start", "2027-01-01", "--start-in", "1h"], "the same thing"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused(options: list[str], reason: str) -> None:
    done = run(*CREATE, *options)
    assert isinstance(done.exception, UsageError)
    assert reason in str(done.exception)
    assert not Path("club.toml").exists()


@pytest.mark.parametrize("options", [["--people", "200"], ["--delta", "0.001"], ["--start-in", "1h"], ["--start", "x"]])
def test_what_belongs_to_a_promise_needs_one(options: list[str]) -> None:
    done = run("swarm", "create", "club", "--catalogue", "films.csv", *options)
    assert isinstance(done.exception, UsageError)
    assert "add --epsilon" in str(done.exception.remedy)


def test_the_number_of_people_has_to_be_said() -> None:
    done = run(*CREATE[:-2])
    assert isinstance(done.exception, UsageError)
    assert "--people N" in str(done.exception.remedy)


def test_a_start_is_read_in_the_zone_that_it_names() -> None:
    assert start_time("2026-01-01T00:00:30+00:00", None, 1_767_225_600) == 1_767_225_630
    assert start_time(None, "90s", 1000.0) == 1090
    assert start_time(None, None, 0.0) == 3600


# what a member sees


def known(directory: StateDirectory, n_sums: int) -> None:
    """As if the device had contributed to the first n_sums sums, among people who like even films or odd ones. The last two films
    hardly anybody knows.
    """
    manifest = directory.swarm()
    assert manifest.promise is not None
    rng = np.random.default_rng(0)
    films = np.arange(N_ITEMS)
    kinds = [np.where(films >= 10, 0.01, np.where(films % 2 == kind, 0.9, 0.05)) for kind in (0, 1)]
    people = [np.flatnonzero(rng.random(N_ITEMS) < kinds[person % 2]) for person in range(800)]
    vote = np.mean([popularity_statistic(items, N_ITEMS) for items in people], axis=0).astype(np.float32)
    selected = select(popularity_of(vote), 10)
    centre = expected_popularity(popularity_of(vote), selected, 0.0)
    mean = np.mean([pair_statistic(items, selected, centre, N_ITEMS) for items in people], axis=0).astype(np.float32)
    assert mean.shape == (n_pairs(10),)
    outcomes = {1: SumOutcome(vote, 200, 1e-4), 2: SumOutcome(mean, 200, 1e-3)}
    with directory.open_store() as store:
        ledger = SumLedger(store, manifest.swarm_id, manifest.promise, directory.ledger_mark())
        history = History(store, manifest, directory.catalogue(), 0.0)
        keeper = PromiseKeeper(manifest.promise, manifest.swarm_id, N_ITEMS, store, history, ledger)
        for number in range(1, n_sums + 1):
            keeper.record(number)
        save_notes(store, manifest.swarm_id, {k: SumNote(enrolled=203, partners=14) for k in range(1, n_sums + 1)})
        keeper.learn(SumResults({k: outcomes[k] for k in range(1, n_sums + 1)}, selected if n_sums == 2 else None))


def test_before_the_first_sum_nothing_is_recommended_and_it_says_why(directory: StateDirectory) -> None:
    assert answer("recommend")["recommendations"] == []
    assert "not counted anything yet" in run("recommend").stdout
    assert "not counted anything yet" in answer("similar", "0")["note"]
    status = answer("status")
    assert (status["promise"]["stage"], status["promise"]["sum"]) == ("waiting", 1)
    assert "sum 1 of 2 (what is popular) starts in" in run("status").stdout
    assert "only while p2prec start runs" in run("status").stdout
    assert status["privacy"] == {"epsilon_spent": 0.0, "epsilon_budget": 8.0, "delta": 1e-5}


def test_after_the_first_sum_everybody_gets_what_is_popular(directory: StateDirectory) -> None:
    known(directory, 1)
    found = answer("recommend", "-n", "3")
    assert {one["reason"] for one in found["recommendations"]} == {"popular in your swarm"}
    assert not {"0", "1", "2", "3"} & {one["item"] for one in found["recommendations"]}
    assert "when tastes follow" in found["note"]
    assert "starts in" in answer("status")["promise"]["text"]


def test_after_both_sums_tastes_count_and_have_reasons(directory: StateDirectory) -> None:
    for film in ("1", "3"):
        assert run("forget", film).exit_code == 0
    known(directory, 2)
    found = answer("recommend", "-n", "3")
    assert found["note"] is None
    assert all(int(one["item"]) % 2 == 0 for one in found["recommendations"])  # who likes even films
    reasons = [one["reason"] for one in found["recommendations"]]
    assert any(reason.startswith("because you liked Film ") for reason in reasons)
    similar = answer("similar", "4", "-n", "3")["similar"]
    assert all(int(one["item"]) % 2 == 0 for one in similar)
    assert "10 most popular items only" in answer("similar", "11")["note"]
    status = answer("status")
    assert status["promise"]["stage"] == "learned"
    assert status["promise"]["contributed"] == [1, 2]
    assert "nothing more is sent" in status["promise"]["text"]


def test_privacy_says_what_was_promised_spent_and_shared(directory: StateDirectory) -> None:
    said = run("privacy").stdout
    assert "epsilon at most 8" in said
    assert "among at least 200 people" in said
    assert "nothing: no contribution has left this device" in said
    known(directory, 1)
    said = run("privacy").stdout
    assert "what is popular: contributed, under masks shared with 14 other devices, one of 203 people" in said
    assert "tastes: nothing yet" in said
    report = privacy_report(directory)
    assert (report["verdict"], report["spent"]["contributions_left"]) == ("protected", 1)
    assert report["lifetime"]["epsilon"] == pytest.approx(report["spent"]["epsilon"], rel=1e-9)
    known_both = report["promised"]
    assert (known_both["epsilon_budget"], known_both["people_needed"], known_both["colluding_partners"]) == (
        8.0,
        200,
        3,
    )


def test_both_sums_spend_the_promise_and_leave_nothing_to_spend(directory: StateDirectory) -> None:
    known(directory, 2)
    report = privacy_report(directory)
    assert report["spent"]["epsilon"] == pytest.approx(8.0, rel=1e-9)
    assert report["spent"]["contributions_left"] == 0
    assert "2,981 times less likely" in run("privacy").stdout


def test_who_sat_out_is_told_why(directory: StateDirectory) -> None:
    manifest = directory.swarm()
    with directory.open_store() as store:
        save_notes(
            store, manifest.swarm_id, {1: SumNote(enrolled=42, sat_out="only 42 peers take part, 200 are needed")}
        )
    assert "what is popular: nothing, since only 42 peers take part" in run("privacy").stdout
    assert "sat out sum 1: only 42 peers take part" in run("status").stdout


def test_what_was_withdrawn_counts_as_spent_and_is_called_that(directory: StateDirectory) -> None:
    known(directory, 1)
    with directory.open_store() as store:
        save_notes(store, directory.swarm().swarm_id, {1: SumNote(60, 0, "only 5 mask partners have answered")})
    assert "counts as spent (epsilon 2.65); this device then dropped out, since only 5 mask" in run("privacy").stdout


def test_forgetting_says_what_cannot_be_recalled(directory: StateDirectory) -> None:
    done = run("forget", "3")
    assert "in no sum that is still to come" in done.stdout
    assert "contributed" not in done.stdout
    known(directory, 1)
    said = run("forget", "2").stdout
    assert "contributed to sum 1 of the swarm. That cannot be recalled" in said
    assert "in no sum that is still to come" in said


def test_a_result_that_is_damaged_is_not_believed(directory: StateDirectory) -> None:
    known(directory, 2)
    manifest = directory.swarm()
    assert manifest.promise is not None
    with directory.open_store() as store:
        with store._database.write() as connection:
            connection.execute("UPDATE model_table SET data = zeroblob(length(data)) WHERE name = 'mean2'")
        ledger = SumLedger(store, manifest.swarm_id, manifest.promise, directory.ledger_mark())
        history = History(store, manifest, directory.catalogue(), 0.0)
        keeper = PromiseKeeper(manifest.promise, manifest.swarm_id, N_ITEMS, store, history, ledger)
        assert keeper.model is None
        assert keeper.results.n_known == 0
        assert ledger.spent_on == {1, 2}  # what was spent stays spent
