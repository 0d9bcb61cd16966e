"""The ledger's second note, and what `p2prec privacy` says."""

from __future__ import annotations

import errno
import json
import math
import shutil
from pathlib import Path

import msgspec
import pytest
from peer_rig import MANIFEST
from typer.testing import CliRunner

from p2prec.api import privacy as report_module
from p2prec.api.privacy import privacy_report
from p2prec.cli import privacy as command
from p2prec.cli import status
from p2prec.cli.app import app
from p2prec.daemon.ledger import StoreLedger
from p2prec.errors import StoreError
from p2prec.manifest import Manifest, PrivacyParameters
from p2prec.privacy.accountant import epsilon
from p2prec.storage.invitation import Invitation
from p2prec.storage.mark import LedgerMark
from p2prec.storage.state import StateDirectory
from p2prec.types import SwarmId

NOISY = msgspec.structs.replace(MANIFEST, privacy=PrivacyParameters(noise_multiplier=4.0, epsilon_budget=3.0))


def joined(path: Path, manifest: Manifest = NOISY) -> StateDirectory:
    directory = StateDirectory.open(path)
    directory.join(Invitation(manifest, None))
    return directory


def spend(directory: StateDirectory, times: int) -> None:
    with directory.open_store() as store:
        ledger = StoreLedger(store, directory.swarm(), directory.ledger_mark())
        for _ in range(times):
            ledger.record()


def test_a_restored_database_does_not_give_budget_back(tmp_path: Path) -> None:
    directory = joined(tmp_path / "state")
    spend(directory, 2)
    backup = tmp_path / "backup"
    shutil.copy(directory.store_path, backup)
    spend(directory, 3)
    for beside in directory.path.glob("p2prec.sqlite3*"):
        beside.unlink()
    shutil.copy(backup, directory.store_path)
    with directory.open_store() as store:
        ledger = StoreLedger(store, NOISY, directory.ledger_mark())
        assert (ledger.contributions, ledger.forgotten) == (5, 3)
        assert ledger.record() == 6
    report = privacy_report(directory)
    # The store's own numbers go on from 6, so nothing is missing any more.
    assert report["spent"]["contributions"] == 6
    assert report["spent"]["epsilon"] == epsilon(4.0, 6 * 2, 1e-5)


def test_the_mark_is_noted_before_a_record_returns_and_never_goes_back(tmp_path: Path) -> None:
    mark = LedgerMark(tmp_path / "mark")
    one, other = SwarmId(b"1" * 32), SwarmId(b"2" * 32)
    assert mark.contributions(one) == 0
    mark.note(one, 5)
    mark.note(one, 3)
    mark.note(other, 1)
    assert (mark.contributions(one), mark.contributions(other)) == (5, 1)


def test_a_full_disk_is_named_and_the_mark_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, swarm = LedgerMark(tmp_path / "mark"), SwarmId(bytes(32))
    mark.note(swarm, 5)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("p2prec.storage.mark.write_atomically", full)
    with pytest.raises(StoreError, match="disk is full; free some space"):
        mark.note(swarm, 6)
    assert mark.contributions(swarm) == 5


@pytest.mark.parametrize("text", ["", "[]", '{"a": -1}', '{"a": true}', '{"a": 1.5}', "\x00", "x" * (1 << 20) + "x"])
def test_a_damaged_mark_is_an_error_not_a_zero(tmp_path: Path, text: str) -> None:
    (tmp_path / "mark").write_text(text)
    with pytest.raises(StoreError):
        LedgerMark(tmp_path / "mark").contributions(SwarmId(bytes(32)))


def test_a_mark_that_cannot_be_written_stops_the_contribution(tmp_path: Path) -> None:
    directory = joined(tmp_path / "state")
    with directory.open_store() as store:
        ledger = StoreLedger(store, NOISY, LedgerMark(tmp_path / "no such folder" / "mark"))
        with pytest.raises(StoreError):
            ledger.record()
        # The row is there, so it counts.
        assert StoreLedger(store, NOISY).contributions == 1


def test_the_report_of_a_peer_that_sent_nothing(tmp_path: Path) -> None:
    report = privacy_report(joined(tmp_path / "state"))
    assert report["verdict"] == "nothing-sent"
    assert report["spent"]["epsilon"] == 0.0
    assert report["lifetime"] == {"epsilon": 0.0, "swarms": 0, "contributions": 0}


def test_swarms_add_up_over_a_life(tmp_path: Path) -> None:
    directory = joined(tmp_path / "state")
    spend(directory, 2)
    other = msgspec.structs.replace(NOISY, name="another", privacy=PrivacyParameters(noise_multiplier=2.0))
    directory.join(Invitation(other, None), replace=True)
    spend(directory, 1)
    report = privacy_report(directory)
    assert report["spent"]["epsilon"] == epsilon(2.0, 2, 1e-5)
    # 4 mechanisms of sigma 4 and 2 of sigma 2 are 12 of sigma 4.
    assert math.isclose(report["lifetime"]["epsilon"], epsilon(4.0, 12, 1e-5), rel_tol=1e-9)


def test_without_noise_everything_is_spent(tmp_path: Path) -> None:
    directory = joined(tmp_path / "state", msgspec.structs.replace(MANIFEST, privacy=PrivacyParameters()))
    spend(directory, 1)
    report = privacy_report(directory)
    assert (report["verdict"], report["spent"]["epsilon"]) == ("no-noise", None)


@pytest.mark.parametrize("contributions", [0, 1, 2])
def test_the_command_says_it_in_words_and_in_json(tmp_path: Path, contributions: int) -> None:
    directory = joined(tmp_path / "state")
    spend(directory, contributions)
    runner = CliRunner()
    said = runner.invoke(app, ["privacy", "--state", str(directory.path)])
    assert said.exit_code == 0
    assert "cannot be recalled" in said.stdout
    assert ("epsilon at most 3" in said.stdout) and ("nothing: no contribution" in said.stdout) == (contributions == 0)
    answer = json.loads(runner.invoke(app, ["privacy", "--state", str(directory.path), "--json"]).stdout)
    assert answer == privacy_report(directory)
    assert command.privacy_lines(answer)


def test_the_words_know_when_a_promise_means_nothing() -> None:
    # An app with one command has no subcommands, hence the second module; both agree where promises end.
    assert status.MEANINGFUL_EPSILON == report_module.MEANINGFUL_EPSILON
