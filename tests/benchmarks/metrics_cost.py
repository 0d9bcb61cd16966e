"""What `--metrics` costs a device: two daemons of one swarm with MovieLens-1M's catalogue, one of them scraped.

    python tests/benchmarks/metrics_cost.py [--data FOLDER] [--rounds N] [--items N]

Both do the same rounds at the same time; the difference is the cost (docs/decisions/0006-prometheus-client.md).
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from daemons import Running, make_device, running
from figures import Figure, machine, show
from films import Films, load_films

from p2prec.data.catalogue import Catalogue

SCRAPE_EVERY_S = 1.0
"""Ten times as often as deploy/observability/prometheus.yml."""
SETTLE_DEADLINE_S = 120.0


def main() -> None:
    options = _options()
    films = fewer(load_films(options.data), options.items)
    manifest = films.manifest()
    print(f"{films.source}: {len(films.catalogue):,} items; " + ", ".join(f"{k} {v}" for k, v in machine().items()))
    with tempfile.TemporaryDirectory(prefix="p2prec-bench-") as name, ExitStack() as swarm:
        plain_device = make_device(Path(name) / "plain", manifest, films.people[0])
        watched_device = make_device(Path(name) / "watched", manifest, films.people[0])
        plain = swarm.enter_context(running(plain_device))
        watched = swarm.enter_context(running(watched_device, "--peer", plain.address, "--metrics", "0"))
        show("Metrics off and on", measure(plain, watched, options.rounds))


def fewer(films: Films, n_items: int | None) -> Films:
    """The same with the first `n_items` of the catalogue only."""
    if n_items is None:
        return films
    catalogue = Catalogue(films.catalogue.keys[:n_items], films.catalogue.titles[:n_items])
    kept = (tuple(one for one in history if one.item in catalogue) for history in films.people)
    return dataclasses.replace(films, catalogue=catalogue, people=tuple(kept))


def measure(plain: Running, watched: Running, n_rounds: int) -> list[Figure]:
    """Scrape one of them for `n_rounds` rounds of 10 s; memory is the largest of readings once a second."""
    log = (watched.device.state.parent / "daemon.log").read_text(encoding="utf-8")
    found = re.search(r"metrics at (http://\S+)", log)
    assert found is not None, log
    url = found[1]
    _settle((plain, watched))
    before = (plain.cpu.own_s, watched.cpu.own_s)
    memory: tuple[list[int], list[int]] = ([], [])
    sizes, seconds = [], []
    began = time.monotonic()
    while time.monotonic() - began < 10.0 * n_rounds:
        asked = time.perf_counter()
        with urllib.request.urlopen(url, timeout=10) as page:
            sizes.append(len(page.read()))
        seconds.append(time.perf_counter() - asked)
        for daemon, readings in zip((plain, watched), memory, strict=True):
            readings.append(daemon.rss_bytes)
        time.sleep(SCRAPE_EVERY_S)
    cpu_s = (plain.cpu.own_s - before[0], watched.cpu.own_s - before[1])
    return [
        Figure("resident memory, off", max(memory[0]) / 1e6, "MB", note=f"largest of {len(sizes)}"),
        Figure("resident memory, on", max(memory[1]) / 1e6, "MB", note="scraped once a second"),
        Figure("CPU a scrape", 1000 * (cpu_s[1] - cpu_s[0]) / len(sizes), "ms", note="on less off, a scrape"),
        Figure("a scrape takes", 1000 * sorted(seconds)[len(seconds) // 2], "ms", note="median"),
        Figure("page", max(sizes) / 1000, "kB"),
    ]


def _settle(daemons: tuple[Running, ...]) -> None:
    """Wait for the first exchanges and the first measurement of each."""
    deadline = time.monotonic() + SETTLE_DEADLINE_S
    for daemon in daemons:
        while (status := daemon.device.status())["exchanges"] < 2 or status["quality"]["ndcg_at_10"] is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no exchange and measurement within {SETTLE_DEADLINE_S:g} s: {status}")
            time.sleep(1.0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds ml-1m/ratings.csv.gz and items.csv.gz")
    parser.add_argument("--rounds", type=int, default=6, help="rounds to measure, 10 s each (default 6)")
    parser.add_argument("--items", type=int, help="keep only so many items of the catalogue (default: all)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
