"""swarm, log, import, forget and identity as a person and a script meet them: text, files, errors and exit codes."""

from __future__ import annotations

import importlib
import json
import os
import pty
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2prec import manifest as manifests
from p2prec.cli.swarm_parameters import in_parts
from p2prec.data.interactions import Interaction
from p2prec.errors import UsageError
from p2prec.privacy.ledger import Budget
from p2prec.storage.invitation import load
from p2prec.storage.state import StateDirectory

CATALOGUE = "item,title\n1,Toy Story (1995)\n2,Heat (1995)\n3,Heathers (1989)\n"


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
def p2prec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in a folder with a catalogue, with a state directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PREC_STATE", str(tmp_path / "state"))
    Path("films.csv").write_text(CATALOGUE)
    for name in ("swarm", "log", "import_", "forget", "identity"):
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


@pytest.fixture
def joined(p2prec: Run) -> Run:
    """The same, in an open implicit swarm."""
    assert p2prec("swarm", "create", "films", "--catalogue", "films.csv").code == 0
    assert p2prec("swarm", "join", "films.toml").code == 0
    return p2prec


def logged(tmp_path: Path) -> list[Interaction]:
    with StateDirectory.open(tmp_path / "state").open_store() as store:
        return store.interactions()


# swarm create


def test_create_writes_a_manifest_and_says_what_to_do_next(p2prec: Run) -> None:
    done = p2prec(
        "swarm", "create", "My Films!", "--catalogue", "films.csv", "--round-interval", "2", "--n-factors", "4"
    )
    assert (done.code, done.err) == (0, "")
    assert "p2prec swarm join my-films.toml" in done.out
    assert "a little noise, for people who trust each other: no formal privacy" in done.out
    manifest = manifests.load(Path("my-films.toml"))
    assert (manifest.name, manifest.catalogue.n_items, manifest.is_private) == ("My Films!", 3, False)
    assert (manifest.learning.objective, manifest.learning.n_factors) == ("implicit", 4)
    assert manifest.learning.round_interval_s == 2.0
    assert manifest.catalogue_csv() == CATALOGUE.encode()
    assert manifest.swarm_id.hex() in done.out


def test_two_swarms_of_one_name_are_two_swarms(p2prec: Run) -> None:
    for name in ("a.toml", "b.toml"):
        p2prec("swarm", "create", "films", "--catalogue", "films.csv", "-o", name)
    assert manifests.load(Path("a.toml")).swarm_id != manifests.load(Path("b.toml")).swarm_id


def test_create_does_not_overwrite_unless_forced(p2prec: Run) -> None:
    Path("films.toml").write_text("precious")
    done = p2prec("swarm", "create", "films", "--catalogue", "films.csv")
    assert done.code == 2
    assert "--force" in done.err
    assert Path("films.toml").read_text() == "precious"
    assert p2prec("swarm", "create", "films", "--catalogue", "films.csv", "--force").code == 0
    assert manifests.load(Path("films.toml")).name == "films"


def test_a_noisy_swarm_states_its_epsilon_and_contributes_rarely(p2prec: Run) -> None:
    done = p2prec(
        "swarm", "create", "f", "--catalogue", "films.csv", "--noise-multiplier", "8", "--epsilon-budget", "8"
    )
    assert "epsilon 2.26 after 10 contributions" in done.out
    manifest = manifests.load(Path("f.toml"))
    assert manifest.learning.contribute_every_exchanges == 60
    assert manifest.privacy.epsilon_budget == 8.0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--epsilon-budget", "8", "--noise-multiplier", "0"], "needs noise"),
        (["--epsilon-budget", "8"], "more than the budget of 8"),
        (["--epsilon-budget", "1", "--noise-multiplier", "1"], "more than the budget"),
        (["--n-factors", "0"], "not in the range"),
        (["--n-factors", "257"], "not in the range"),
        (["--round-interval", "0.01"], "not in the range"),
        (["--noise-multiplier", "nan"], "noise_multiplier"),
        (["--clip-norm", "0"], "clip_norm"),
        (["--objective", "both"], "objective"),
    ],
)
def test_swarms_that_make_no_sense_are_refused(p2prec: Run, options: list[str], reason: str) -> None:
    done = p2prec("swarm", "create", "f", "--catalogue", "films.csv", *options)
    assert done.code == 2
    assert reason in done.err
    assert not Path("f.toml").exists()


def test_a_catalogue_too_large_for_one_message_is_sentin_parts(p2prec: Run) -> None:
    rows = "".join(f"{n},Film {n}\n" for n in range(20_000))
    Path("big.csv").write_text(f"item,title\n{rows}")
    for name, n_factors, n_parts in (("small", "4", 7), ("large", "64", 64)):
        done = p2prec("swarm", "create", name, "--catalogue", "big.csv", "--n-factors", n_factors)
        assert done.code == 0
        assert manifests.load(Path(f"{name}.toml")).learning.n_parts == n_parts
    assert "each way, 64 times a round" in p2prec("swarm", "show", "large.toml").out


def test_a_catalogue_too_large_for_all_parts_names_what_fits() -> None:
    with pytest.raises(UsageError, match="do not fit into 64 messages of 1 MB") as refusal:
        in_parts(manifests.LearningParameters(n_factors=200), 1_000_000)
    assert refusal.value.remedy is not None
    fewer = int(refusal.value.remedy.split("--n-factors ")[1].split()[0])
    assert in_parts(manifests.LearningParameters(n_factors=fewer), 1_000_000).n_parts == 64
    with pytest.raises(UsageError):
        in_parts(manifests.LearningParameters(n_factors=fewer + 1), 1_000_000)


def test_bad_catalogue_rows_are_reported_and_no_catalogue_is_an_error(p2prec: Run) -> None:
    Path("films.csv").write_text("item,title\n" + ",x\n" * 7 + "1,a\n")
    done = p2prec("swarm", "create", "f", "--catalogue", "films.csv")
    assert done.code == 0
    assert "films.csv:2: skipped: no item key" in done.err
    assert "and 2 more rows skipped" in done.err
    done = p2prec("swarm", "create", "g", "--catalogue", "absent.csv")
    assert (done.code, "No such file" in done.err) == (2, True)


# Private swarms


def test_a_private_swarm_is_created_joined_and_handed_on_by_invitation(p2prec: Run, tmp_path: Path) -> None:
    done = p2prec("swarm", "create", "family", "--catalogue", "films.csv", "--private")
    assert done.code == 0
    assert "p2prec swarm join family.invite" in done.out
    assert stat.S_IMODE(Path("family.invite").stat().st_mode) == 0o600
    secret = load(Path("family.invite")).membership_secret
    assert secret is not None
    assert secret.hex() not in Path("family.toml").read_text()

    refused = p2prec("swarm", "join", "family.toml")
    assert refused.code == 2
    assert "ask a member for an invitation" in refused.err
    assert not (tmp_path / "state").exists()

    assert p2prec("swarm", "join", "family.invite").code == 0
    done = p2prec("swarm", "invite", "-o", "for-ada.invite")
    assert done.code == 0
    assert stat.S_IMODE(Path("for-ada.invite").stat().st_mode) == 0o600
    assert p2prec("swarm", "invite", "-o", "for-ada.invite").code == 2
    assert p2prec("swarm", "join", "for-ada.invite", "--state", "ada").code == 0
    assert StateDirectory(tmp_path / "ada").membership_secret() == secret
    assert secret.hex() not in done.out + done.err


def test_an_open_swarm_needs_no_invitation(joined: Run) -> None:
    done = joined("swarm", "invite")
    assert done.code == 2
    assert "share its manifest" in done.err


# swarm join and show


def test_joining_makes_the_identity_and_joining_again_changes_nothing(p2prec: Run, tmp_path: Path) -> None:
    p2prec("swarm", "create", "films", "--catalogue", "films.csv")
    done = p2prec("swarm", "join", "films.toml")
    assert "Joined swarm 'films': 3 items" in done.out
    assert (tmp_path / "state" / "identity.key").exists()
    assert "Already in" in p2prec("swarm", "join", "films.toml").out


def test_another_swarm_is_joined_only_with_replace_and_the_history_stays(joined: Run, tmp_path: Path) -> None:
    joined("log", "1")
    joined("log", "2")
    Path("books.csv").write_text("item,title\n1,Emma\n")
    joined("swarm", "create", "books", "--catalogue", "books.csv")
    refused = joined("swarm", "join", "books.toml")
    assert (refused.code, "--replace" in refused.err) == (2, True)
    done = joined("swarm", "join", "books.toml", "--replace")
    assert "1 of the 2 interactions" in done.out
    assert len(logged(tmp_path)) == 2


def test_what_is_no_manifest_is_not_joined(p2prec: Run, tmp_path: Path) -> None:
    for name in ("films.csv", "absent"):
        assert p2prec("swarm", "join", name).code == 2
    p2prec("swarm", "create", "films", "--catalogue", "films.csv")
    damaged = Path("films.toml").read_text().replace("digest = ", 'digest = "0000" #')
    Path("films.toml").write_text(damaged)
    assert p2prec("swarm", "join", "films.toml").code == 2
    assert not (tmp_path / "state").exists()


def test_show_describes_the_joined_swarm_or_a_file(joined: Run) -> None:
    done = joined("swarm", "show")
    assert "films, open" in done.out
    assert "16 factors" in done.out
    fields = joined("swarm", "show", "films.toml", "--json").json
    assert fields["swarm_id"] == manifests.load(Path("films.toml")).swarm_id.hex()
    assert fields["epsilon_of_one_contribution"] > 1000
    assert "data" not in fields["catalogue"]
    assert joined("swarm", "show", "--items").out == CATALOGUE
    joined(
        "swarm",
        "create",
        "p",
        "--catalogue",
        "films.csv",
        "--private",
        "--noise-multiplier",
        "8",
        "--epsilon-budget",
        "8",
    )
    shown = joined("swarm", "show", "p.invite").out
    assert "p, private" in shown
    assert "then a peer only listens" in shown
    assert (load(Path("p.invite")).membership_secret or b"").hex() not in shown


def test_before_joining_every_command_says_how(p2prec: Run, tmp_path: Path) -> None:
    for command in (["log", "1"], ["import", "films.csv"], ["forget", "1"], ["swarm", "show"], ["swarm", "invite"]):
        done = p2prec(*command)
        assert done.code == 2
        assert "p2prec swarm join" in done.err
    assert not (tmp_path / "state").exists()


# log


def test_log_stores_before_it_says_so(joined: Run, tmp_path: Path) -> None:
    done = joined("log", "toy story")
    assert (done.code, done.out) == (0, "Logged: Toy Story (1995), play\n")
    joined("log", "2", "--rating", "4.5", "--at", "1970-01-02T00:00Z")
    joined("log", "3", "--event", "buy", "--at", "86400")
    plays, ratings, buys = logged(tmp_path)
    assert (plays.item, plays.event, plays.value) == ("1", "play", None)
    assert ratings == Interaction(ratings.item, "rating", 4.5, 86400.0)
    assert buys == Interaction(buys.item, "buy", None, 86400.0)
    assert "Was logged already" in joined("log", "3", "--event", "buy", "--at", "86400").out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["Hea"], "matches 2 items"),
        (["Het (1995)"], "did you mean: Heat (1995)"),
        (["1", "--rating", "nan"], "not a number"),
        (["1", "--rating", "good"], "not a valid float"),
        (["1", "--rating", "4", "--event", "play"], "exclude each other"),
        (["1", "--event", ""], "printable"),
        (["1", "--event", "rating"], "a rating needs a value"),
        (["1", "--at", "tomorrow"], "not a time"),
        (["1", "--at", "9000-01-01"], "in the future"),
        (["1", "--at", "-1"], "1970"),
    ],
)
def test_log_refuses_what_it_cannot_store(joined: Run, tmp_path: Path, arguments: list[str], reason: str) -> None:
    done = joined("log", *arguments)
    assert done.code == 2
    assert reason in " ".join(done.err.split())
    assert logged(tmp_path) == []


def test_a_swarm_of_ratings_wants_a_rating(p2prec: Run) -> None:
    p2prec("swarm", "create", "r", "--catalogue", "films.csv", "--objective", "explicit")
    p2prec("swarm", "join", "r.toml")
    learning = manifests.load(Path("r.toml")).learning
    assert (learning.objective, learning.user_reg) == ("explicit", 10.0)
    done = p2prec("log", "1")
    assert (done.code, "--rating R" in done.err) == (2, True)
    assert p2prec("log", "1", "--rating", "3").code == 0


# import


def test_import_takes_the_good_rows_reports_the_bad_ones_and_doubles_nothing(joined: Run, tmp_path: Path) -> None:
    Path("h.csv").write_text("item,rating,timestamp\n1,5,10\nHeat (1995),x,11\nheathers (1989),3,12\n9,1,13\n")
    done = joined("import", "h.csv")
    assert (done.code, done.out) == (0, "Imported 2 interactions.\n")
    assert done.err.splitlines() == [
        "h.csv:3: skipped: 'x' is not a number",
        "h.csv:5: skipped: no item '9' in the swarm's catalogue",
    ]
    assert [interaction.item for interaction in logged(tmp_path)] == ["1", "3"]
    again = joined("import", "h.csv")
    assert (again.code, again.out) == (0, "Imported 0 interactions; 2 were there already.\n")
    assert len(logged(tmp_path)) == 2


def test_only_the_first_bad_rows_are_shown_and_a_file_without_a_good_one_fails(joined: Run) -> None:
    Path("h.csv").write_text("item\n" + "nothing\n" * 30)
    done = joined("import", "h.csv")
    assert done.code == 1
    assert len(done.err.splitlines()) == 21
    assert done.err.splitlines()[-1] == "h.csv: and 10 more skipped"


def test_what_a_file_says_cannot_reach_the_terminal_as_control_characters(joined: Run) -> None:
    Path("h.csv").write_text("item\n\x1b[2Jwiped\n")
    assert "\x1b" not in joined("import", "h.csv").err


def test_a_file_of_several_people_asks_whose_and_stores_nothing(joined: Run, tmp_path: Path) -> None:
    Path("h.csv").write_text("user,item\nada,1\nbob,2\n")
    done = joined("import", "h.csv")
    assert done.code == 2
    assert "--user ada, bob" in done.err
    assert logged(tmp_path) == []
    assert joined("import", "h.csv", "--user", "bob").out == "Imported 1 interaction.\n"


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "p2prec", *arguments]


def test_an_interrupted_import_stores_nothing(joined: Run, tmp_path: Path) -> None:
    os.mkfifo("pipe.csv")
    process = subprocess.Popen(program("import", "pipe.csv"), stderr=subprocess.PIPE, env=_environment())
    # More than a pipe holds, so that the import has begun to read when this returns; and then it waits for the rest.
    with Path("pipe.csv").open("w") as pipe:
        pipe.write("item,timestamp\n" + "".join(f"1,{n}\n" for n in range(50_000)))
        pipe.flush()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert logged(tmp_path) == []


def test_a_terminal_gets_a_progress_bar(joined: Run, tmp_path: Path) -> None:
    Path("h.csv").write_text("item,timestamp\n" + "".join(f"1,{n}\n" for n in range(30_000)))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        program("import", "h.csv"), stdout=subprocess.PIPE, stderr=theirs, env=_environment(TERM="xterm", COLUMNS="80")
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert out == b"Imported 30,000 interactions.\n"
    assert b"Importing" in shown


def _environment(**extra: str) -> dict[str, str]:
    root = str(Path(manifests.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": root, **extra}


# forget


def test_forget_erases_one_item_or_everything(joined: Run, tmp_path: Path) -> None:
    for item in ("1", "1", "2", "3"):
        joined("log", item)
    assert joined("forget", "toy story").out == "Forgot 2 interactions with Toy Story (1995).\n"
    assert joined("forget", "1").out == "Nothing was logged with Toy Story (1995).\n"
    refused = joined("forget", "--all")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert len(logged(tmp_path)) == 2
    assert joined("forget", "--all", "--yes").out == "Forgot 2 interactions.\n"
    assert logged(tmp_path) == []
    assert joined("forget", "--all").code == 0


def test_forget_says_what_cannot_be_recalled(joined: Run, tmp_path: Path) -> None:
    joined("log", "1")
    state = StateDirectory.open(tmp_path / "state")
    swarm_id = state.swarm().swarm_id
    with state.open_store() as store:
        store.append_ledger(Budget(0.0, 2, 1e-5, None).entry(0, swarm_id, now=1.0))
    assert "1 contribution to the swarm: what was sent cannot be recalled" in joined("forget", "1").out


def test_forget_needs_one_thing_to_forget_and_reaches_items_of_earlier_swarms(joined: Run, tmp_path: Path) -> None:
    assert joined("forget").code == 2
    assert joined("forget", "1", "--all").code == 2
    assert joined("forget", "unheard of").code == 2
    joined("log", "3")
    Path("books.csv").write_text("item,title\n1,Emma\n")
    joined("swarm", "create", "books", "--catalogue", "books.csv")
    joined("swarm", "join", "books.toml", "--replace")
    assert joined("forget", "3").out == "Forgot 1 interaction with 3.\n"
    assert logged(tmp_path) == []


# identity


def test_identity_is_shown_and_renewed(joined: Run, tmp_path: Path) -> None:
    before = joined("identity", "show", "--json").json["peer_id"]
    assert joined("identity", "show").out.splitlines()[0] == before
    done = joined("identity", "renew")
    after = joined("identity", "show", "--json").json["peer_id"]
    assert after != before
    assert before in done.out
    assert after in done.out


def test_no_identity_is_made_by_looking_and_none_renewed_under_a_daemon(p2prec: Run, tmp_path: Path) -> None:
    done = p2prec("identity", "show")
    assert (done.code, "p2prec swarm join" in done.err) == (2, True)
    assert not (tmp_path / "state").exists()
    state = StateDirectory.open(tmp_path / "state")
    state.identity()
    with state.lock():
        assert p2prec("identity", "renew").code == 2
