"""Write docs/results.md out of the kept reports: `python -m p2prec.lab.report` (`make results`), and run what is missing.

The page is a template (docs/results.in.md), prose with placeholders:

    {{ targets }}               all targets, what was measured, and whether that is enough
    {{ experiment NAME }}       an experiment's figures, its command, seeds and versions
    {{ PATH | FORMAT }}         a figure (`p2prec.lab.results` says how it is named), in Python's format language

so that every figure on it comes out of a file that a command wrote.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from p2prec.errors import DataError, UsageError
from p2prec.lab.compare import table as comparison_table
from p2prec.lab.reproduce import reproduce
from p2prec.lab.results import Experiment, Report, Results

_PLACEHOLDER = re.compile(r"\{\{\s*(?P<body>.+?)\s*\}\}")
_NOT_MEASURED = "not measured"
METHODS = ("swarm", "central", "popularity", "alone", "gossip_learning")
PRIVATE_METHODS = ("swarm", "curator", "popularity")
_RATINGS = (("RMSE", "{}.rmse"), ("worst decile", "fairness.{}.worst_decile_rmse"))
_RANKINGS = (
    ("HR@10 full", "{}.full.hr_at_10"),
    ("NDCG@10 full", "{}.full.ndcg_at_10"),
    ("HR@10 sampled", "{}.sampled.hr_at_10"),
    ("NDCG@10 sampled", "{}.sampled.ndcg_at_10"),
    ("long tail", "fairness.{}.long_tail_share_at_10"),
)


def page(template: str, results: Results) -> str:
    """The template with its placeholders filled in. Raises DataError that names the placeholder."""

    def filled(match: re.Match[str]) -> str:
        try:
            return _filled(match["body"], results)
        except UsageError as error:
            raise DataError(f"{match[0]}: {error}", remedy=error.remedy) from error
        except ValueError as error:  # of the format
            raise DataError(f"{match[0]}: {error}") from error

    return _PLACEHOLDER.sub(filled, template)


def _filled(body: str, results: Results) -> str:
    if body == "targets":
        return targets_table(results)
    if body.startswith("experiment "):
        return experiment_section(results, body.removeprefix("experiment ").strip())
    expression, bar, form = body.rpartition("|")
    if not bar:
        raise DataError("no format: write PATH | FORMAT")
    value = results.value(expression.strip())
    return _NOT_MEASURED if value is None else format(value, form.strip())


def targets_table(results: Results) -> str:
    """One row a target, in the order of the file."""
    rows = []
    for one in results.experiments.values():
        for target in one.target:
            measured = results.value(target.figure, one.name)
            if isinstance(measured, str):
                raise DataError(f"{one.name}: {target.figure} is text, and a target a number")
            shown = "" if measured is None else format(measured, target.shown)
            rows.append([f"`{one.name}`", target.claim, target.bounds, shown, target.verdict(measured)])
    return markdown_table(["experiment", "what", "target", "measured", ""], rows)


def experiment_section(results: Results, name: str) -> str:
    """Heading, what it shows, figures, how to measure it again."""
    one, reports = results.experiment(name), results.reports(name)
    figures = _FIGURES[one.method](results, one) if reports else "Not run yet."
    parts = [f"### {one.title or name}", one.about.strip(), figures, _again(results, one), _made_by(reports)]
    return "\n\n".join(part for part in parts if part)


def _run_figures(results: Results, one: Experiment) -> str:
    """The swarm and what it is compared with; quality on the way; what it cost."""
    explicit = one.lab_config(one.seeds[0]).objective == "explicit"
    if one.lab_config(one.seeds[0]).epsilon is not None:
        return _private_figures(results, one)
    columns = _RATINGS if explicit else _RANKINGS
    cost = (
        f"Sent: {_mean(results, one, 'bytes_per_peer_round', ',.0f')} bytes a peer and round. "
        f"Speed: {_mean(results, one, 'peer_rounds_per_second', ',.0f')} peer-rounds a second; "
        f"{_mean(results, one, 'seconds', ',.0f')} s with all baselines, "
        f"{_mean(results, one, 'peak_rss_bytes / 1e9', '.2f')} GB at most. "
        f"At the end the copies are {_mean(results, one, 'consensus_distance', '.4f')} of their mean's norm apart."
    )
    table = _methods_table(results, one, METHODS, columns)
    return "\n\n".join(
        [table, _on_the_way(results, one, explicit) + _luck(results, one, "central", "the central's"), cost]
    )


def _private_figures(results: Results, one: Experiment) -> str:
    """The swarm under its promise and a curator under the same; what crashes have left of the noise, and what was sent."""
    table = _methods_table(results, one, PRIVATE_METHODS, _RANKINGS)
    sums = ("popularity", "pairs")
    noise = " and ".join(_mean(results, one, f"sums.{name}.noise_over_curator", ".3f") for name in sums)
    megabytes = " and ".join(_mean(results, one, f"sums.{name}.bytes_per_peer / 1e6", ".2f") for name in sums)
    cost = (
        f"Noise in a peer's copies of the two sums, over a curator's: {noise}. Sent: {megabytes} MB a peer in all; "
        f"{_mean(results, one, 'seconds', ',.0f')} s, {_mean(results, one, 'peak_rss_bytes / 1e9', '.2f')} GB at most."
    )
    unlike = _luck(results, one, "curator", "the curator's")
    alike = _luck(results, one, "curator_same_draw", "what a curator reaches with the swarm's own draw of noise")
    return f"{table}\n\n{cost}{unlike}{alike}"


def _methods_table(
    results: Results, one: Experiment, methods: Sequence[str], columns: Sequence[tuple[str, str]]
) -> str:
    """One row a method. columns: title and path of a figure, {} being the method."""
    rows = [
        [method.replace("_", " "), *(_mean(results, one, path.format(method), ".4f") for _, path in columns)]
        for method in methods
    ]
    return markdown_table(["", *(title for title, _ in columns)], rows)


def _on_the_way(results: Results, one: Experiment, explicit: bool) -> str:
    """The swarm's quality after some rounds, in a line."""
    name, metric = ("RMSE", "rmse") if explicit else ("NDCG@10 by full ranking", "full.ndcg_at_10")
    first = next(iter(results.reports(one.name).values()))
    rounds = [moment["round"] for moment in first["per_round"]]
    moments = [f"{_mean(results, one, f'per_round[round={at}].{metric}', '.4f')} after {at}" for at in rounds]
    return f"{name} of the swarm by rounds: {', '.join(moments)}."


def _luck(results: Results, one: Experiment, other: str, called: str) -> str:
    """How much of the difference between the swarm and another may be the luck of who was asked; "" in older reports."""
    compared = [report.get(f"swarm_over_{other}") or {} for report in results.reports(one.name).values()]
    if not all(compared):
        return ""
    names = {"rmse": "RMSE", "full.ndcg_at_10": "NDCG@10 full", "sampled.ndcg_at_10": "NDCG@10 sampled"}
    parts = []
    for path, name in names.items():
        if path.partition(".")[0] in compared[0]:
            ratio = f"swarm_over_{other}.{path}"
            errors = [
                error for error in results.values(f"{ratio}.standard_error", one.name) if not isinstance(error, str)
            ]
            parts.append(
                f"{name} {_mean(results, one, f'{ratio}.ratio', '.3f')} (standard error {statistics.fmean(errors):.3f})"
            )
    return f" Of {called}, with the standard error over people in one run: {', '.join(parts)}."


def _mean(results: Results, one: Experiment, expression: str, form: str) -> str:
    """A figure; with several seeds their mean and sample standard deviation."""
    values = [value for value in results.values(expression, one.name) if not isinstance(value, str)]
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)}"


def _comparison(results: Results, one: Experiment) -> str:
    """Of several seeds the first: the table is about differences far larger than chance."""
    header, rows = comparison_table(next(iter(results.reports(one.name).values())))
    return markdown_table(header, [[row[0].replace("_", " "), *row[1:]] for row in rows])


def _again(results: Results, one: Experiment) -> str:
    """How to run it, in the repository's root."""
    folder = Path(results.folder.name)
    return "\n".join(f"    {one.command_text(one.path(folder, seed), seed)}" for seed in one.seeds)


def _made_by(reports: Mapping[int, Report]) -> str:
    """Seeds and versions."""
    first = next(iter(reports.values()), {})
    if "versions" not in first:
        return ""
    seeds = f"Seed{'s' if len(reports) > 1 else ''} {', '.join(map(str, reports))}"
    return f"{seeds}; {', '.join(f'{name} {version}' for name, version in first['versions'].items())}."


_FIGURES: dict[str, Callable[[Results, Experiment], str]] = {
    "run": _run_figures,
    "compare": _comparison,
    "command": lambda results, one: "",
}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 something failed (or, with --check, the page is not what the reports say), 2 asked wrongly."""
    options = _options(arguments)
    try:
        results = Results(options.results)
        failed = 0
        if options.run is not None:
            failed = reproduce(results, options.run, again=options.again, data_dir=options.data_dir)
            results = Results(options.results)
        text = page(options.template.read_text(encoding="utf-8"), results)
    except (UsageError, OSError) as error:
        remedy = getattr(error, "remedy", "")
        print(f"report: {error}{f'; {remedy}' if remedy else ''}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    if options.check:
        return int(text != options.output.read_text(encoding="utf-8"))
    options.output.write_text(text, encoding="utf-8")
    return int(failed > 0)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--run",
        nargs="*",
        metavar="NAME",
        help="first run these experiments, or all, where the report is missing or old",
    )
    add("--again", action="store_true", help="run them whatever is there")
    add("--data-dir", type=Path, metavar="DIR", help="where p2prec lab looks for data sets (default: its own)")
    add("--check", action="store_true", help="write nothing; exit with 1 if the page would change")
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="reports and experiments.toml")
    add("--template", type=Path, default=Path("docs/results.in.md"), metavar="FILE")
    add("--output", type=Path, default=Path("docs/results.md"), metavar="FILE")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
