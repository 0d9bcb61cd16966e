"""`p2prec lab` from the command line to its files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lab_people import crowd

from p2prec.cli import app as command_line
from p2prec.cli import lab
from p2prec.errors import UsageError
from p2prec.lab.config import assigned, config_from
from p2prec.lab.engines import measured_rounds
from p2prec.lab.experiment import RUN_BASELINES, prepare, run_baselines
from p2prec.lab.sweep import read_sweep

RESULTS = ["swarm", "central", "popularity", "alone", "gossip_learning"]
COSTS = [
    "bytes_per_peer_round",
    "largest_message_bytes",
    "messages",
    "peer_rounds_per_second",
    "seconds",
    "peak_rss_bytes",
    "consensus_distance",
]
RUN_KEYS = [*RESULTS, "swarm_over_central", "per_round", *COSTS, "fairness", "config", "versions"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "crowd"
    folder.mkdir()
    histories = crowd(16, 30)
    lines = ["user,item,rating,timestamp"]
    for person in range(16):
        pairs = histories.of(person)
        for item, value, time in zip(pairs.items.tolist(), pairs.values.tolist(), pairs.times.tolist(), strict=True):
            lines.append(f"{person},{histories.catalogue.keys[item]},{value},{int(time)}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    return folder


def p2prec(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[object]) -> int:
    assert lab.lab_app
    monkeypatch.setattr(sys, "argv", ["p2prec", "lab", *map(str, arguments)])
    try:
        return command_line.run()
    except SystemExit as ended:
        return int(ended.code or 0)


def small(data: Path, *more: object) -> list[object]:
    return ["--data", data, "--rounds", 3, "--set", "learning.n_factors=2", *more]


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_run_writes_the_promised_report(
    objective: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.json"
    split = "last" if objective == "implicit" else "random"
    arguments = ["run", *small(data, "--objective", objective, "--split", split, "--json", out)]
    assert p2prec(monkeypatch, arguments) == 0
    report = json.loads(out.read_text())
    assert list(report) == RUN_KEYS
    figures = {"rmse"} if objective == "explicit" else {"full", "sampled"}
    for name in RESULTS:
        assert set(report[name]) == figures
    assert [moment["round"] for moment in report["per_round"]] == [1, 2, 3]
    assert report["per_round"][-1].items() >= report["swarm"].items()
    assert report["config"]["learning"]["n_factors"] == 2
    assert report["config"]["n_peers"] == 16
    assert report["messages"] == 3 * 3 * 16
    assert report["bytes_per_peer_round"] == 2 * report["largest_message_bytes"]  # an offer and an answer, of one part
    assert "gossip learning" in capsys.readouterr().out


def without_clock(report: dict[str, Any]) -> str:
    for moment in report["per_round"]:
        del moment["seconds"]
    kept = {k: v for k, v in report.items() if k not in ("seconds", "peer_rounds_per_second", "peak_rss_bytes")}
    return json.dumps(kept, sort_keys=True)


def test_the_same_seed_gives_the_same_report(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = []
    for seed in (0, 0, 1):
        out = tmp_path / "run.json"
        arguments = ["run", *small(data, "--seed", seed, "--json", out, "--drop", 0.2, "--online", 0.7)]
        assert p2prec(monkeypatch, arguments) == 0
        reports.append(without_clock(json.loads(out.read_text())))
    assert reports[0] == reports[1] != reports[2]


def test_baselines_side_by_side_come_to_the_same(data: Path, tmp_path: Path) -> None:
    task = prepare(config_from({"data": str(data), "rounds": 3, "learning": {"n_factors": 2}}), data, tmp_path)
    one_by_one, together = (run_baselines(task, RUN_BASELINES, lambda *_: None, at_once=n) for n in (1, 2))
    assert list(one_by_one) == list(together) == RESULTS[1:]
    for name, one in one_by_one.items():
        assert one.judgement.figures == together[name].judgement.figures, name


def test_production_peers_come_to_the_same_report(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All figures but what the messages cost: whole frames there, the tables' payload here."""
    reports = []
    for engine in ("kernels", "peers"):
        out = tmp_path / f"{engine}.json"
        arguments = ["run", *small(data, "--engine", engine, "--peers", 8, "--topology", "ring", "--json", out)]
        assert p2prec(monkeypatch, arguments) == 0
        reports.append(json.loads(out.read_text()))
    kernels, peers = reports
    assert list(peers) == RUN_KEYS
    assert peers["bytes_per_peer_round"] > kernels["bytes_per_peer_round"] > 0
    for name in ("swarm", "messages", "largest_message_bytes", "consensus_distance", "fairness"):
        assert peers[name] == kernels[name], name


def test_compare_has_every_method_on_one_split(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compare.json"
    assert p2prec(monkeypatch, ["compare", *small(data, "--json", out)]) == 0
    report = json.loads(out.read_text())
    assert {*report["methods"], *report["skipped"]} == {
        *RESULTS,
        "ials",
        "ials_rendle",
        "ease",
        "item_knn",
        "fcf",
        "fedmf",
        "d_psgd",
        "epidemic_learning",
    }
    assert set(report["skipped"]) <= {"ials"}
    shown = capsys.readouterr().out
    assert all(name in shown for name in report["methods"])


def test_compare_only_what_is_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compare.json"
    assert p2prec(monkeypatch, ["compare", *small(data, "--only", "ease", "--only", "swarm", "--json", out)]) == 0
    assert list(json.loads(out.read_text())["methods"]) == ["ease", "swarm"]
    assert p2prec(monkeypatch, ["compare", *small(data, "--only", "best")]) == 2
    assert "there are: swarm, central" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "some"], "a number, or all"),
        (["--peers", 17], "16 people"),
        (["--peers", 1], "peers"),
        (["--set", "learning.n_factors=0"], "n_factors"),
        (["--set", "learning.speed=1"], "speed"),
        (["--set", "n_factors=1"], "not of the form"),
        (["--engine", "peers", "--drop", 0.1], "--engine kernels"),
        (["--engine", "peers", "--online", 0.5], "--engine kernels"),
        (["--split", "nowhere.csv"], "no such file"),
        (["--json", "/nowhere/run.json"], "no such folder"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    arguments: list[object],
    message: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert p2prec(monkeypatch, ["run", *small(data, *arguments)]) == 2
    assert message in capsys.readouterr().err


def test_explicit_needs_ratings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plays.csv").write_text("user,item,timestamp\n1,a,1\n1,b,2\n2,a,1\n2,b,2\n")
    assert p2prec(monkeypatch, ["run", "--data", tmp_path / "plays.csv", "--objective", "explicit"]) == 2
    assert "--objective implicit" in capsys.readouterr().err


def test_measurements_end_with_the_last_round() -> None:
    def rounds(**fields: Any) -> list[int]:
        return measured_rounds(config_from({"data": "x", **fields}))

    assert rounds(rounds=3) == [1, 2, 3]
    assert rounds(rounds=100) == list(range(10, 101, 10))
    assert rounds(rounds=25, measure_every=10) == [10, 20, 25]
    assert rounds(rounds=5, measure_every=10) == [5]


def test_settings_are_numbers_where_they_look_like_numbers() -> None:
    assert assigned(["learning.reg=0.5", "privacy.epsilon_budget=null", "learning.x=y"]) == {
        "learning": {"reg": 0.5, "x": "y"},
        "privacy": {"epsilon_budget": None},
    }


# --- plots ------------------------------------------------------------------------------------------------------------------


def test_plot_is_drawn(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the lab extra is not installed")
    picture = tmp_path / "run.png"
    assert p2prec(monkeypatch, ["run", *small(data, "--plot", picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert p2prec(monkeypatch, ["run", *small(data, "--plot", tmp_path / "run.xyz")]) == 2


def test_plot_without_matplotlib_says_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert p2prec(monkeypatch, ["run", *small(data, "--plot", tmp_path / "run.png")]) == 2
    assert "pip install 'p2prec[lab]'" in capsys.readouterr().err


# --- sweeps -----------------------------------------------------------------------------------------------------------------

SWEEP = """
[run]
data = "{data}"
rounds = 2
learning = {{ n_factors = 2 }}

[grid]
seed = [0, 1]
"privacy.clip_norm" = [1.0, 3.0]
"""


def test_sweep_names_cells_by_what_they_are(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(SWEEP.format(data=data))
    cells = read_sweep(file, tmp_path)
    assert {(cell.config.seed, cell.config.privacy["clip_norm"]) for cell in cells} == {(0, 1), (0, 3), (1, 1), (1, 3)}
    assert all(cell.config.learning == {"n_factors": 2} for cell in cells)
    file.write_text(SWEEP.format(data=data).replace("[0, 1]", "[1, 0, 0]"))
    assert {cell.path for cell in read_sweep(file, tmp_path)} == {cell.path for cell in cells}


def test_sweep_goes_on_where_it_was_broken_off(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "grid.toml", tmp_path / "out"
    file.write_text(SWEEP.format(data=data).replace("[1.0, 3.0]", "[3.0]"))
    output.mkdir()
    done, waiting = read_sweep(file, output)
    done.path.write_text("{}")
    assert p2prec(monkeypatch, ["sweep", file, "--output", output, "--processes", 1]) == 0
    assert "2 cells, 1 done already" in capsys.readouterr().err
    assert done.path.read_text() == "{}"
    assert list(json.loads(waiting.path.read_text())) == RUN_KEYS
    assert sorted(output.iterdir()) == sorted([done.path, waiting.path])


def test_sweep_says_which_cell_failed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "grid.toml", tmp_path / "out"
    file.write_text(f'[run]\ndata = "{data}"\npeers = 17\n')
    assert p2prec(monkeypatch, ["sweep", file, "--output", output, "--processes", 1]) == 1
    assert "1 of 1 cells failed" in capsys.readouterr().err
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run", "Expected"),
        ("[other]\na = 1", "other"),
        ("[grid]\nseed = 1", "list of values"),
        ("[grid]\nseed = []", "list of values"),
        ("[run]\nsped = 1", "sped"),
        (f'[run]\ndata = "x"\n[grid]\nseed = {list(range(10_001))}', "10,001 cells"),
    ],
)
def test_sweep_files_that_cannot_be_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_sweep(file, tmp_path)


def test_sweep_on_ray_needs_ray(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    file = tmp_path / "grid.toml"
    file.write_text(SWEEP.format(data=data))
    assert p2prec(monkeypatch, ["sweep", file, "--output", tmp_path / "out", "--ray", "auto"]) == 2
    assert "pip install 'p2prec[ray]'" in capsys.readouterr().err
