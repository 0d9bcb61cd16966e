"""recommend, similar, status and peers as a person and a script meet them: text, JSON, errors and exit codes."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2prec.api.control import ControlServer
from p2prec.api.status import NO_QUALITY, peer_fields, status_fields
from p2prec.daemon.snapshot import to_stored
from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import Interaction
from p2prec.errors import UsageError
from p2prec.manifest import LearningParameters, Manifest, reference_catalogue
from p2prec.model.state import initial_state
from p2prec.privacy.ledger import LedgerEntry
from p2prec.storage.invitation import Invitation
from p2prec.storage.records import KnownPeer, StoredModel
from p2prec.storage.state import StateDirectory
from p2prec.types import ItemKey, PeerId

KEYS = ("k0", "k1", "k2", "k3")
TITLES = ("Robots", "Space", "Kisses", "Wedding: the long version")
PEER = "12D3KooWLYtMBqMeZDvEG4XJFrDPvLDsXzDHwYMGRQdvJnoCtAhE"


STATUS_PROGRAM = "from p2prec.cli import status; from p2prec.cli.app import run; import sys; sys.exit(run())"
SIMILAR_PROGRAM = STATUS_PROGRAM.replace("import status", "import similar, status")


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def p2prec(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""
    monkeypatch.delenv("P2PREC_STATE", raising=False)
    for name in ("recommend", "similar", "status", "peers"):
        importlib.import_module(f"p2prec.cli.{name}")
    from p2prec.cli.app import run

    def p2prec(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["p2prec", *arguments])
        try:
            code = run()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return p2prec


def make_manifest() -> Manifest:
    catalogue = Catalogue(tuple(ItemKey(key) for key in KEYS), TITLES)
    return Manifest(
        name="home",
        catalogue=reference_catalogue(catalogue.canonical_csv(), 4),
        seed="0" * 64,
        learning=LearningParameters(n_factors=2),
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A stopped peer that knows another, likes robots, and has contributed three times."""
    directory = StateDirectory.open(tmp_path / "s")
    manifest = make_manifest()
    directory.join(Invitation(manifest, None))
    fresh = initial_state(manifest.learning, bytes(32), KEYS)
    factors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32)
    evidence = np.full(4, 0.5, np.float32)
    model = dataclasses.replace(fresh, item_factors=factors, average=factors, evidence=evidence, age=np.array(7.0))
    with directory.open_store() as store:
        store.add_interactions([Interaction(ItemKey("k0"), "play", None, 1e9)])
        store.save_model(to_stored(model, manifest.swarm_id))
        store.add_counters(
            {
                "rounds": 7,
                "exchanges": 6,
                "bytes_in": 2048,
                "bytes_out": 1 << 20,
                "refused.forged": 2,
                "refused.replayed": 0,
            }
        )
        store.save_peers([KnownPeer(PeerId(PEER), "fe80::1", 4001, time.time() - 120)])
        store.append_ledger(LedgerEntry(3, 1e9, manifest.swarm_id, 4.0, 2, 3.25, 1e-5))
        store.set_meta("quality", json.dumps({"ndcg_at_10": 0.25, "auc": 0.75, "held_out": 4}))
    return directory.path


class Daemon:
    """Something that listens on the control socket of a state directory, in a thread, and counts what it is asked."""

    def __init__(self, state: Path, answers: dict[str, dict[str, Any]]) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answers = answers
        self._loop = asyncio.new_event_loop()
        self._server = ControlServer(StateDirectory.open(state).prepare_control_socket(), self._answer)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)

    def _answer(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((command, arguments))
        if command not in self._answers:
            raise UsageError("not like that", remedy="like this")
        return self._answers[command]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def live_status(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "peer_id": PEER,
        "manifest": make_manifest(),
        "state": "running",
        "uptime_s": 7985.0,
        "listen": "0.0.0.0:41234",
        "neighbours": 1,
        "interactions": 153,
        "contributions": 12,
        "epsilon_spent": 3.25,
        "rss_bytes": 50 << 20,
        "quality": {
            **NO_QUALITY,
            "ndcg_at_10": 0.161,
            "popularity_ndcg_at_10": 0.101,
            "alone_ndcg_at_10": 0.09,
            "held_out": 15,
        },
        "warnings": ["the same identity runs at 10.0.0.9"],
    }
    return status_fields(**{**fields, **changes})


@pytest.fixture
def daemon(state: Path) -> Iterator[Daemon]:
    peer = peer_fields(
        peer_id=PEER, host="10.0.0.7", port=4001, state="connected", direction="out", last_seen_s=3, exchanges=1234
    )
    daemon = Daemon(
        state,
        {
            "status": live_status(),
            "peers": {"peers": [peer, peer_fields(peer_id=PEER, host="", port=0, state="known")]},
            "recommend": {"recommendations": [], "note": "a note"},
        },
    )
    yield daemon
    daemon.stop()


def test_recommend_from_the_store(p2prec: Run, state: Path) -> None:
    done = p2prec("recommend", "-n", "2", "--state", str(state))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("  1  Space  0.")
    assert lines[1] == "     because you liked Robots"
    assert len(lines) == 4
    assert done.err == ""


def test_recommend_as_json(p2prec: Run, state: Path) -> None:
    answer = p2prec("recommend", "--json", "--state", str(state)).json
    assert [found["item"] for found in answer["recommendations"]] == ["k1", "k3", "k2"]
    assert answer["recommendations"][0]["because"] == ["k0"]
    assert answer["note"] is None


def test_commands_ask_the_daemon_when_it_runs(p2prec: Run, state: Path, daemon: Daemon) -> None:
    done = p2prec("recommend", "-n", "7", "--state", str(state))
    assert done.out == "a note\n"
    assert daemon.asked == [("recommend", {"n": 7})]


def test_the_daemons_refusal_is_the_commands(p2prec: Run, state: Path, daemon: Daemon) -> None:
    done = p2prec("similar", "Robots", "--state", str(state))
    assert (done.code, done.out, done.err) == (2, "", "p2prec: not like that\n  like this\n")


def test_the_state_may_come_from_the_environment(p2prec: Run, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PREC_STATE", str(state))
    assert p2prec("recommend", "--json").json["recommendations"][0]["item"] == "k1"


def test_similar_by_key_and_by_title(p2prec: Run, state: Path) -> None:
    by_title = p2prec("similar", "robots", "-n", "1", "--state", str(state))
    assert by_title.out == "Like Robots:\n  0.99  Space\n"
    assert p2prec("similar", "k0", "-n", "1", "--state", str(state)).out == by_title.out
    assert p2prec("similar", "k0", "--json", "--state", str(state)).json["similar"][0]["item"] == "k1"


def test_an_unknown_item_names_near_ones(p2prec: Run, state: Path) -> None:
    done = p2prec("similar", "Robot", "--state", str(state))
    assert done.code == 0, "a part of exactly one title is enough"
    done = p2prec("similar", "Robbots", "--state", str(state))
    assert done.code == 2
    assert "did you mean: Robots (key k0)" in done.err


@pytest.mark.parametrize("command", [("recommend",), ("similar", "k0"), ("status",), ("peers",)])
def test_without_a_swarm_every_command_says_what_to_do(p2prec: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = p2prec(*command, "--state", str(tmp_path / "typo"))
    assert done.code == 2
    assert "no swarm has been joined" in done.err
    assert "swarm join" in done.err
    assert not (tmp_path / "typo").exists(), "reading leaves nothing behind"


@pytest.mark.parametrize("command", [("recommend",), ("similar", "k0"), ("status",), ("peers",)])
def test_a_damaged_store_is_reported_not_traced(p2prec: Run, state: Path, command: tuple[str, ...]) -> None:
    store = StateDirectory(state).store_path
    store.write_bytes(b"not a database, but long enough to be looked at" * 100)
    done = p2prec(*command, "--state", str(state))
    assert (done.code, done.out) == (1, "")
    assert "damaged" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("change", ["missing", "shape", "nan"])
def test_a_damaged_model_is_reported(p2prec: Run, state: Path, change: str) -> None:
    directory = StateDirectory(state)
    swarm_id = directory.swarm().swarm_id
    with directory.open_store() as store:
        stored = store.load_model(swarm_id)
        assert stored is not None
        tables = dict(stored.tables)
        if change == "missing":
            del tables["evidence"]
        elif change == "shape":
            tables["evidence"] = tables["evidence"][:-1]
        else:
            tables["evidence"] = np.array([1, np.nan, 1, 1], np.float32)
        store.save_model(StoredModel(swarm_id, 7.0, tables))
    done = p2prec("recommend", "--state", str(state))
    assert done.code == 1
    assert "saved model is damaged (evidence)" in done.err


def test_a_peer_without_a_model_is_alone(p2prec: Run, tmp_path: Path) -> None:
    directory = StateDirectory.open(tmp_path / "new")
    directory.join(Invitation(make_manifest(), None))
    done = p2prec("recommend", "--state", str(directory.path))
    assert done.code == 0
    assert done.out.startswith("This peer has learned from nobody else yet")
    assert p2prec("peers", "--state", str(directory.path)).out.startswith("No other peer has been met yet")
    status = p2prec("status", "--state", str(directory.path)).out
    assert "nothing of yours has been sent yet" in status
    assert "not measured yet" in status


@pytest.mark.parametrize("n", ["0", "101", "x"])
def test_numbers_out_of_bounds_are_usage_errors(p2prec: Run, state: Path, n: str) -> None:
    assert p2prec("recommend", "-n", n, "--state", str(state)).code == 2


def test_status_of_a_stopped_peer(p2prec: Run, state: Path) -> None:
    done = p2prec("status", "--state", str(state))
    assert done.code == 0
    assert "State      stopped; start it with: p2prec start" in done.out
    assert "7 rounds, 3 contributions from 1 interaction of yours" in done.out
    assert "2.0 KiB in, 1.0 MiB out; 2 messages refused (forged 2)" in done.out
    assert "epsilon 3.25 spent (delta 1e-05), no budget set" in done.out
    assert "Memory" not in done.out
    answer = p2prec("status", "--json", "--state", str(state)).json
    assert set(answer) == set(live_status())
    assert answer["refused_by_reason"] == {"forged": 2}
    assert answer["quality"]["ndcg_at_10"] == 0.25
    assert answer["quality"]["alone_ndcg_at_10"] is None


def test_status_has_the_promised_fields(p2prec: Run, state: Path) -> None:
    answer = p2prec("status", "--json", "--state", str(state)).json
    assert {
        *(
            "peer_id",
            "swarm_id",
            "state",
            "uptime_s",
            "neighbours",
            "peers_seen",
            "rounds",
            "contributions",
            "interactions",
        ),
        *("items", "bytes_in", "bytes_out", "messages_refused", "privacy", "quality", "rss_bytes"),
    } <= set(answer)
    assert set(answer["privacy"]) >= {"epsilon_spent", "epsilon_budget", "delta"}
    assert set(answer["quality"]) >= {"ndcg_at_10", "hr_at_10", "auc", "popularity_ndcg_at_10", "alone_ndcg_at_10"}


def test_status_of_a_running_peer_in_80_columns(p2prec: Run, state: Path, daemon: Daemon) -> None:
    done = p2prec("status", "--state", str(state))
    assert "running for 2 h 13 min, listening on 0.0.0.0:41234" in done.out
    assert "Memory     50.0 MiB" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert ["swarm", "0.161", "-", "-"] in rows
    assert ["popularity", "0.101", "-", "-"] in rows
    assert "Warning    the same identity runs at 10.0.0.9" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_lock_without_a_socket_is_a_daemon_on_its_way(p2prec: Run, state: Path) -> None:
    with StateDirectory(state).lock():
        assert p2prec("status", "--json", "--state", str(state)).json["state"] == "starting"


@pytest.mark.parametrize(
    ("spent", "budget", "contributions", "expected"),
    [
        (0.0, 8.0, 0, "nothing of yours has been sent yet"),
        (None, 8.0, 5, "no formal guarantee: this swarm adds no noise"),
        (3.2, 8.0, 5, "epsilon 3.2 of 8 spent (delta 1e-05)"),
        (20.0, None, 5, "epsilon 20 spent (delta 1e-05), no budget set"),
        (20.5, None, 5, "epsilon 20.5 spent (delta 1e-05): no formal guarantee at this noise"),
    ],
)
def test_privacy_in_plain_words(spent: float | None, budget: float | None, contributions: int, expected: str) -> None:
    from p2prec.cli.screen import text
    from p2prec.cli.status import privacy_text

    privacy = {"epsilon_spent": spent, "epsilon_budget": budget, "delta": 1e-5}
    assert text(*privacy_text(privacy, contributions)).plain == expected


def test_infinite_epsilon_is_null_in_json() -> None:
    assert live_status(epsilon_spent=float("inf"))["privacy"]["epsilon_spent"] is None


def test_peers_of_a_running_daemon(p2prec: Run, state: Path, daemon: Daemon) -> None:
    lines = p2prec("peers", "--state", str(state)).out.splitlines()
    assert lines[0].split() == ["peer", "address", "state", "seen", "exchanges", "in", "out"]
    assert lines[1].split() == [
        "…" + PEER[-12:],
        "10.0.0.7:4001",
        "connected",
        "(out)",
        "3",
        "s",
        "1,234",
        "0",
        "B",
        "0",
        "B",
    ]
    assert lines[2].split() == ["…" + PEER[-12:], "-", "known", "-", "0", "0", "B", "0", "B"]
    assert max(map(len, lines)) <= 80


def test_peers_of_a_stopped_one(p2prec: Run, state: Path) -> None:
    (peer,) = p2prec("peers", "--json", "--state", str(state)).json["peers"]
    assert (peer["peer_id"], peer["state"], peer["host"]) == (PEER, "known", "fe80::1")
    assert 120 <= peer["last_seen_s"] < 1000
    assert "[fe80::1]:4001" in p2prec("peers", "--state", str(state)).out


def test_what_others_wrote_cannot_steer_the_terminal(p2prec: Run, state: Path) -> None:
    daemon = Daemon(state, {"recommend": {"recommendations": [], "note": "\x1b]0;owned\x07\u202egnp.exe"}})
    out = p2prec("recommend", "--state", str(state)).out
    daemon.stop()
    assert not any(character in out for character in "\x1b\x07\u202e")
    assert "owned" in out


@pytest.mark.parametrize("command", ["recommend", "similar", "status", "peers"])
def test_help_has_examples(p2prec: Run, command: str) -> None:
    done = p2prec(command, "--help")
    assert done.code == 0
    assert "Examples:" in done.out
    assert f"p2prec {command}" in done.out


def completions(typed: str, **environment: str) -> list[str]:
    """What bash would offer for `p2prec similar TYPED`."""
    program = f"import sys; sys.argv[0] = 'p2prec'; {SIMILAR_PROGRAM}"
    asked = {"_P2PREC_COMPLETE": "complete_bash", "COMP_WORDS": f"p2prec similar {typed}"}
    asked["COMP_CWORD"] = str(len(typed.split()) + 1)
    variables = {**os.environ, **asked, **environment}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_keys_and_one_word_titles(state: Path) -> None:
    assert completions(f"--state {state} k") == ["k0", "k1", "k2", "k3"]
    assert completions("Rob", P2PREC_STATE=str(state)) == ["Robots"]
    assert completions("Wed", P2PREC_STATE=str(state)) == []


def test_without_a_swarm_nothing_is_completed(tmp_path: Path) -> None:
    assert completions("k", P2PREC_STATE=str(tmp_path / "missing")) == []


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_have_units(n_bytes: int, expected: str) -> None:
    from p2prec.cli.screen import bytes_text

    assert bytes_text(n_bytes) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (90000, "1 d 1 h")],
)
def test_durations_have_units(seconds: float, expected: str) -> None:
    from p2prec.cli.screen import duration_text

    assert duration_text(seconds) == expected


class Terminal:
    """`p2prec status ...` on a pseudo-terminal of 60 columns."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", **environment}
        self._process = subprocess.Popen(
            [sys.executable, "-c", STATUS_PROGRAM, *arguments], stdin=slave, stdout=slave, stderr=slave, env=variables
        )
        os.close(slave)
        self.output = ""

    def read_until(self, wanted: str, times: int = 1) -> None:
        while self.output.count(wanted) < times:
            self.output += os.read(self._master, 1 << 16).decode()

    def finish(self) -> int:
        while True:
            try:
                chunk = os.read(self._master, 1 << 16)
            except OSError:  # Linux says that everybody has left a pseudo-terminal with EIO.
                break
            if not chunk:
                break
            self.output += chunk.decode()
        os.close(self._master)
        return self._process.wait(10)

    def interrupt(self) -> None:
        self._process.send_signal(2)


def test_a_terminal_gets_colour_and_lines_that_fit(state: Path) -> None:
    terminal = Terminal("--state", str(state), NO_COLOR="")
    assert terminal.finish() == 0
    assert "\x1b[31mstopped" in terminal.output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.output)
    assert max(map(len, plain.splitlines())) <= 60
    assert "…" not in plain


@pytest.mark.parametrize("width", [1, 20, 30, 60])
def test_long_lines_are_continued_under_their_text(width: int) -> None:
    from rich.console import Console

    from p2prec.cli.screen import fitted, labelled

    sentence = "this identity also runs at 10.0.0.9; renew it on one of the two machines"
    lines = [line.plain.rstrip() for line in fitted([labelled("Warning", sentence)], Console(width=width))]
    assert " ".join(" ".join(lines).split()).replace(" ", "") == f"Warning {sentence}".replace(" ", "")
    if width > 11:
        assert max(map(len, lines)) <= width
        assert all(line.startswith(" " * 11) for line in lines[1:])


def test_no_color_is_honoured(state: Path) -> None:
    terminal = Terminal("--state", str(state), NO_COLOR="1")
    assert terminal.finish() == 0
    assert "stopped" in terminal.output
    assert "\x1b[31m" not in terminal.output


def test_watch_redraws_until_interrupted_and_that_is_no_error(state: Path) -> None:
    terminal = Terminal("--watch", "--state", str(state))
    terminal.read_until("Swarm", times=2)
    terminal.interrupt()
    assert terminal.finish() == 0
    assert "Traceback" not in terminal.output


def test_watch_into_a_pipe_prints_each_time(state: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STATUS_PROGRAM, "--watch", "--state", str(state)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Swarm      home")
    process.send_signal(2)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_watch_as_json_is_a_line_each_time(state: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STATUS_PROGRAM, "--watch", "--json", "--state", str(state)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["state"] == "stopped"
    process.send_signal(2)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_the_reference_is_what_the_commands_say() -> None:
    """If this fails: python docs/generate_reference.py"""
    docs = Path(__file__).parents[2] / "docs"
    program = f"import sys; sys.path.insert(0, {str(docs)!r}); import generate_reference as g; sys.stdout.write(g.reference())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (docs / "reference-cli.md").read_text(encoding="utf-8")
