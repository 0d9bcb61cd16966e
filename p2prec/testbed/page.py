"""The report as one HTML page that needs nothing else: no script, no other file, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from p2prec.testbed.svg import Line, line_chart

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1f2937}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #e5e7eb}th{font-weight:600}
th:first-child,td:first-child{text-align:left}td.text{text-align:left}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(400px,1fr));gap:1rem}
svg .title{font-weight:600;font-size:13px}svg .tick{font-size:10px;fill:#4b5563}svg .grid{stroke:#e5e7eb}
.yes{color:#2f855a}.no{color:#b91c1c;font-weight:600}.scroll{overflow-x:auto}
"""


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    run = report["run"]
    title = f"{run['peers']} peers at {run['cpus']:g} cores each"
    body = [
        f"<h1>p2prec testbed: {escape(title)}</h1>",
        f"<p>{escape(run['engine'])}, rounds of {run['round_interval_s']:g} s, followed for {run['seconds']:.0f} s. "
        "Quality is measured by each peer on the part of its own history that no peer has trained on, by full ranking.</p>",
        "<h2>What must hold</h2>",
        _table(("", "measured", ""), ([c["name"], c["measured"], _verdict(c["holds"])] for c in report["checks"])),
        "<h2>Quality</h2>",
        _quality(report["quality"]),
        "<h2>Over time</h2>",
        f'<div class="charts">{"".join(_charts(report["series"]))}</div>',
        "<h2>Each peer, and all</h2>",
        _costs(report),
    ]
    if report["faults"]:
        body += ["<h2>Faults</h2>", _faults(report["faults"])]
    body += ["<h2>Per peer</h2>", _peers(report["per_peer"])]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>p2prec testbed: {escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _charts(series: Sequence[dict[str, Any]]) -> list[str]:
    def line(label: str, name: str, scale: float = 1.0) -> Line:
        points = [(point["t"], None if point[name] is None else point[name] * scale) for point in series]
        return Line(label, points)

    return [
        line_chart(f"{title}, mean over peers", title, _of_models(line, metric), zero=False)
        for title, metric in (("NDCG@10", "ndcg_at_10"), ("AUC", "auc"))
    ] + [
        line_chart("Others that a peer has found", "share of all", [line("mean", "found_share")]),
        line_chart("Neighbours", "connections a peer", [line("mean", "neighbours")]),
        line_chart(
            "Resident memory", "MB", [line("largest", "rss_bytes_max", 1e-6), line("mean", "rss_bytes_mean", 1e-6)]
        ),
        line_chart("CPU since the start", "seconds a peer", [line("mean", "cpu_s")]),
        line_chart("Datagrams received since the start", "a peer", [line("mean", "datagrams_in")]),
        line_chart("Rounds", "a peer", [line("mean", "rounds")]),
    ]


def _of_models(line: Callable[..., Line], metric: str) -> list[Line]:
    return [line("swarm", metric), line("popularity", f"popularity_{metric}"), line("alone", f"alone_{metric}")]


def _quality(quality: dict[str, Any]) -> str:
    rows = []
    for model in ("swarm", "popularity", "alone"):
        scores = quality[model]
        rows.append([model, *(_number(scores[metric], 3) for metric in ("ndcg_at_10", "hr_at_10", "auc"))])
    return _table(("", "NDCG@10", "hit rate@10", "AUC"), rows)


def _costs(report: dict[str, Any]) -> str:
    cost, network = report["cost"], report["network"]
    lines = [
        ("seconds until it had found all", report["discovery"]["after_own_start_s"], 1.0, 1),
        ("rounds", cost["rounds"], 1.0, 0),
        ("exchanges", cost["exchanges"], 1.0, 0),
        ("neighbours", cost["neighbours"], 1.0, 1),
        ("MB sent", cost["bytes_out"], 1e-6, 2),
        ("kB sent a round", cost["bytes_out_per_round"], 1e-3, 1),
        ("CPU, seconds", cost["cpu_s"], 1.0, 1),
        ("CPU, share of a core", cost["cpu_share"], 1.0, 4),
        ("resident memory, MB", cost["memory_bytes"], 1e-6, 1),
        ("memory of the control group, MB", cost["cgroup_bytes"], 1e-6, 1),
        ("datagrams received", network["datagrams_in"], 1.0, 0),
        ("datagrams lost", network["datagrams_lost"], 1.0, 0),
        ("connections dialled", network["dialled"], 1.0, 0),
        ("longest send queue, frames", network["queued_frames"], 1.0, 0),
    ]
    rows = [
        [name, *(_number(scale * spread[part], digits) for part in ("mean", "min", "max", "sum"))]
        for name, spread, scale, digits in lines
    ]
    return _table(("", "mean", "least", "most", "all together"), rows)


def _faults(trials: Sequence[dict[str, Any]]) -> str:
    rows = []
    for trial in trials:
        rows.append(
            [
                trial["title"],
                *(_ratio(trial["ratios"].get(metric)) for metric in ("ndcg_at_10", "auc")),
                _number(trial["back_after_s"], 0),
                _verdict(trial["holds"]),
            ]
        )
    return _table(("", "NDCG@10 to before", "AUC to before", "back after, s", ""), rows)


def _ratio(ratio: dict[str, float] | None) -> str:
    return "" if ratio is None else f"{ratio['value']:.3f} ± {ratio['error']:.3f}"


def _peers(rows: Iterable[dict[str, Any]]) -> str:
    header = (
        "person", "found all, s", "neighbours", "rounds", "exchanges", "MB sent", "CPU, s", "memory, MB", "datagrams",
        "NDCG@10", "popularity", "alone", "AUC", "popularity", "alone",
    )  # fmt: skip
    cells = []
    for row in rows:
        quality = row["quality"] or {}
        cells.append(
            [
                row["person"],
                _number(row["found_all_s"], 1),
                str(row["neighbours"]),
                str(row["rounds"]),
                str(row["exchanges"]),
                _number(row["bytes_out"] / 1e6, 2),
                _number(row["cpu_s"], 1),
                _number(row["rss_bytes"] / 1e6, 1),
                _number(row["datagrams_in"], 0),
                *(
                    _number(quality.get(f"{prefix}{metric}"), 3)
                    for metric in ("ndcg_at_10", "auc")
                    for prefix in ("", "popularity_", "alone_")
                ),
            ]
        )
    return f'<div class="scroll">{_table(header, cells)}</div>'


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _verdict(holds: bool) -> str:
    return "holds" if holds else "FAILS"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    kind = {"holds": "yes", "FAILS": "no"}.get(text)
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
