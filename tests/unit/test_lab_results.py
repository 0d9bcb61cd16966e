"""The results page: how figures are looked up and judged, how missing ones are run, and that the page is up to date."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from lab_people import crowd

from p2prec.cli import lab
from p2prec.errors import DataError, UsageError
from p2prec.lab.report import main, markdown_table, page, targets_table
from p2prec.lab.reproduce import reproduce, state
from p2prec.lab.results import Results, Target, read_experiments

ROOT = Path(__file__).parents[2]
RUN = {"data": "crowd", "rounds": 2, "learning": {"n_factors": 2}}


def toml_of(**experiment: Any) -> str:
    """One `[[experiment]]`; JSON's values are TOML's, but for tables."""

    def value(it: Any) -> str:
        if isinstance(it, dict):
            return "{ " + ", ".join(f"{key} = {value(one)}" for key, one in it.items()) + " }"
        return f"[{', '.join(map(value, it))}]" if isinstance(it, list) else json.dumps(it)

    return "[[experiment]]\n" + "".join(f"{key} = {value(it)}\n" for key, it in experiment.items())


def results_of(folder: Path, *experiments: dict[str, Any], **reports: Any) -> Results:
    """A folder with these experiments and reports (`one_seed1` stands for one.seed1.json)."""
    folder.mkdir(exist_ok=True)
    (folder / "experiments.toml").write_text("\n".join(toml_of(**one) for one in experiments))
    for name, report in reports.items():
        (folder / f"{name.replace('_', '.')}.json").write_text(json.dumps(report))
    return Results(folder)


def moment(round_: int, ndcg: float) -> dict[str, Any]:
    return {"round": round_, "sampled": {"ndcg_at_10": ndcg}, "sent_bytes_per_peer": 100 * round_}


def test_the_page_is_what_the_reports_say() -> None:
    """If this fails: make results"""
    written = page((ROOT / "docs" / "results.in.md").read_text("utf-8"), Results(ROOT / "results"))
    assert written == (ROOT / "docs" / "results.md").read_text("utf-8")


def test_kept_reports_belong_to_declared_experiments_and_name_no_person() -> None:
    experiments = read_experiments(ROOT / "results")
    expected = {one.path(ROOT / "results", seed) for one in experiments.values() for seed in one.seeds}
    kept = set((ROOT / "results").glob("*.json"))
    assert kept <= expected
    assert not [path for path in kept if "person" in json.loads(path.read_text("utf-8"))]


def test_declared_command_lines_have_options_that_the_commands_know() -> None:
    import typer

    group = typer.main.get_command(lab.lab_app)
    for one in read_experiments(ROOT / "results").values():
        if one.method != "command":
            words = shlex.split(one.command_text(Path("x.json"), one.seeds[0]))
            command = group.commands[one.method]  # type: ignore[attr-defined]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, one.name


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rmse", 0.5),
        ("one:rmse", 0.5),
        ("swarm.rmse / rmse", 4.0),
        ("rmse * 100 / 5", 10.0),
        ("moments[round=60].rmse", 7.0),
        ("moments[round=60].name", "a: b"),
        ("moments[name=c (1.5)].rmse", 8.0),
        ("one:moments[name=a: b].rmse / two:rmse", 3.5),
        ("1.5", 1.5),
        ("two:rmse", 2.0),
        ("three:rmse", None),
        ("rmse / three:rmse", None),
    ],
)
def test_figures_by_path(tmp_path: Path, expression: str, expected: float | str | None) -> None:
    moments = [{"round": 60, "rmse": 7, "name": "a: b"}, {"round": 100, "rmse": 8, "name": "c (1.5)"}]
    results = results_of(
        tmp_path,
        *({"name": name, "method": "command", "command": "x {json}"} for name in ("one", "two", "three")),
        one={"rmse": 0.5, "swarm": {"rmse": 2}, "moments": moments},
        two={"rmse": 2},
    )
    assert results.value(expression, "one") == expected


@pytest.mark.parametrize(
    "path", ["missing", "list", "list[x=2].y", "yes", "list[", "a..b", "text * 2", "list[x=1].z", ""]
)
def test_a_path_to_nothing_is_an_error(tmp_path: Path, path: str) -> None:
    report = {"list": [{"x": 1}], "yes": True, "text": "t"}
    results = results_of(tmp_path, {"name": "one", "method": "command", "command": "x {json}"}, one=report)
    with pytest.raises(DataError):
        results.value(path, "one")


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_damaged_report_is_an_error(tmp_path: Path, text: str) -> None:
    results = results_of(tmp_path, {"name": "one", "method": "command", "command": "x {json}"})
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(DataError):
        results.value("a", "one")


def test_figures_of_several_seeds_are_their_mean(tmp_path: Path) -> None:
    several = {"name": "one", "config": RUN, "seeds": [1, 2, 3]}
    results = results_of(tmp_path, several, one_seed1={"a": 1, "b": 2}, one_seed3={"a": 4, "b": 4})
    assert results.value("a", "one") == 2.5
    assert results.values("a / b", "one") == [0.5, 1.0]
    assert list(results.reports("one")) == [1, 3]


def test_bytes_until_nearly_final_quality(tmp_path: Path) -> None:
    def report(*qualities: float) -> dict[str, Any]:
        return {"swarm": moment(9, qualities[-1]), "per_round": [moment(n, q) for n, q in enumerate(qualities, 1)]}

    results = results_of(
        tmp_path,
        {"name": "full", "config": RUN},
        {"name": "small", "config": RUN, "yardstick": "full"},
        {"name": "late", "config": RUN, "yardstick": "full"},
        full=report(0.5, 0.989, 0.991, 1.0),
        small=report(0.99, 0.98),
        late=report(0.1, 0.98),
    )
    measured = [results.value("sent_bytes_until_99_percent", name) for name in ("full", "small", "late")]
    assert measured == [300, 100, math.inf]


@pytest.mark.parametrize(
    ("bounds", "measured", "verdict"),
    [
        ({"at_least": 2}, 2.0, "pass"),
        ({"at_least": 2}, 1.999, "**missed**"),
        ({"at_most": 2}, 2.0, "pass"),
        ({"at_most": 2}, 2.001, "**missed**"),
        ({"at_least": 1, "at_most": 2}, 0.9, "**missed**"),
        ({"at_least": 1}, math.nan, "**missed**"),
        ({"at_least": 1}, None, "not measured"),
    ],
)
def test_targets(bounds: dict[str, float], measured: float | None, verdict: str) -> None:
    assert Target(claim="c", figure="f", **bounds).verdict(measured) == verdict


def test_the_table_of_targets(tmp_path: Path) -> None:
    target = [{"claim": "fast", "figure": "speed", "at_least": 5000, "shown": ",.0f"}]
    one = {"name": "one", "method": "command", "command": "x {json}", "target": target}
    row = targets_table(results_of(tmp_path, one, one={"speed": 12345.6})).splitlines()[2]
    assert row == "| `one` | fast | at least 5,000 | 12,346 | pass |"
    assert markdown_table(["a|b"], [["c"]]) == "| a\\|b |\n| --- |\n| c |"


def test_templates(tmp_path: Path) -> None:
    results = results_of(tmp_path, {"name": "one", "method": "command", "command": "x {json}"}, one={"a": 0.25})
    assert page("{{ one:a | .1%}} of {{one:a * 8 | .0f}}", results) == "25.0% of 2"
    with pytest.raises(DataError, match=r"\{\{ one:b \| g \}\}: .*no figure b"):
        page("{{ one:b | g }}", results)
    with pytest.raises(DataError, match="Unknown format code"):
        page("{{ one:a | d }}", results)
    with pytest.raises(DataError, match="no format"):
        page("{{ one:a }}", results)
    with pytest.raises(DataError, match="no experiment two"):
        page("{{ experiment two }}", results)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        toml_of(name="Bad name", config=RUN),
        toml_of(name="a", config=RUN, colour="red"),
        toml_of(name="a", config=RUN) + toml_of(name="a", config=RUN),
        toml_of(name="a", config=RUN, command="x"),
        toml_of(name="a"),
        toml_of(name="a", method="command"),
        toml_of(name="a", config=RUN, seeds=[]),
        toml_of(name="a", config=RUN, yardstick="b"),
        toml_of(name="a", config=RUN, target=[{"claim": "c", "figure": "f"}]),
    ],
)
def test_wrong_declarations_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiments.toml").write_text(text)
    with pytest.raises(UsageError):
        read_experiments(tmp_path)


def test_missing_reports_are_run_and_the_page_is_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    histories = crowd(12, 20)
    rows = ["user,item,rating,timestamp"]
    for person in range(12):
        pairs = histories.of(person)
        rows += [f"{person},{item},{value},{int(time)}" for item, value, time in zip(*_lists(pairs), strict=True)]
    (tmp_path / "crowd").mkdir()
    (tmp_path / "crowd" / "ratings.csv").write_text("\n".join(rows))
    folder = tmp_path / "results"
    script = "import sys, json; json.dump({'x': 3, 'person': 'P'}, open(sys.argv[1], 'w')); sys.exit(1)"
    command = {"name": "tool", "method": "command", "command": f'python3 -c "{script}" {{json}}', "omit": ["person"]}
    broken = {"name": "broken", "method": "command", "command": "false {json}"}
    results_of(folder, {"name": "one", "title": "The crowd", "config": RUN, "seeds": [0, 1]}, command, broken)
    (tmp_path / "in.md").write_text("{{ experiment one }}\nx = {{ tool:x | .1f }}")
    where = ["--results", folder, "--template", tmp_path / "in.md", "--output", tmp_path / "out.md"]
    arguments = [*map(str, where), "--data-dir", str(tmp_path)]

    assert main([*arguments, "--run"]) == 1
    said = capfd.readouterr().err
    assert "[1/4] one.seed0 (missing): p2prec lab run --data crowd --rounds 2 --seed 0" in said
    assert "4 reports wanted, 0 there already, 1 failed" in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "experiments.toml", "one.seed0.json", "one.seed1.json", "tool.json",
    ]  # fmt: skip
    assert json.loads((folder / "tool.json").read_text()) == {"x": 3}
    written = (tmp_path / "out.md").read_text()
    assert written.startswith("### The crowd\n\n|  | HR@10 full |")
    assert " ± " in written
    assert "Seeds 0, 1; p2prec" in written
    assert written.endswith("x = 3.0")

    results = Results(folder)
    one = results.experiments["one"]
    assert [state(results, one, seed) for seed in (0, 1)] == ["done", "done"]
    assert reproduce(results, ["one"], again=False, data_dir=tmp_path) == 0
    assert "2 there already" in capfd.readouterr().err
    assert main([*arguments, "--check"]) == 0
    report = json.loads((folder / "one.seed1.json").read_text())
    report["config"]["learning"]["momentum"] = 0.123
    (folder / "one.seed1.json").write_text(json.dumps(report))
    assert [state(Results(folder), one, seed) for seed in (0, 1)] == ["done", "outdated"]
    for backend, expected in (
        ("numpy", "done"),
        ("numba", "done"),
        ("torch", "outdated"),
    ):  # the first two are the same
        report = json.loads((folder / "one.seed0.json").read_text())
        report["config"]["backend"] = backend
        (folder / "one.seed0.json").write_text(json.dumps(report))
        assert state(Results(folder), one, 0) == expected
    (folder / "one.seed1.json").unlink()
    assert main([*arguments, "--check"]) == 1
    assert main([*arguments, "--run", "nobody"]) == 2


def _lists(pairs: Any) -> tuple[list[Any], ...]:
    return pairs.items.tolist(), pairs.values.tolist(), pairs.times.tolist()
