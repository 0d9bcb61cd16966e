"""Side by side: gossipy's matrix factorization example, and the same people as a p2prec swarm (`make bench-peers`).

The example is Hegedus et al. 2020 on MovieLens-100K: 943 peers, one person's ratings each, 20 neighbours; every peer pushes its
model once a round; a tenth of each person's ratings is held out. p2prec's lab gets the very same people, held-out ratings, number
of neighbours and rounds, with the recommended parameters, at the example's d and at d = 8. One after the other, each in a process
of its own; what is timed is the rounds alone. Exits with 1 when a target of the project is missed.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import machine
from films import data_folder

from p2prec.data.histories import Histories, read_histories
from p2prec.data.synthetic import synthetic_histories

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MIN_PEER_ROUNDS_PER_S = 5000.0
MIN_SPEEDUP = 10.0
EXAMPLE_FACTORS = 5
TARGET_FACTORS = 8
N_PEOPLE, N_ITEMS, MEAN_HISTORY = 943, 1682, 106
"""Of MovieLens-100K, for made-up people where it is not there."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one program did."""

    name: str
    n_factors: int
    peer_rounds_per_second: float
    peer_rounds_per_cpu_second: float
    """By the CPU time of all its threads, which other work on the machine disturbs less than the wall time."""
    bytes_per_peer_round: float
    """Sent."""
    rmse: float
    """Over all held-out ratings, each peer predicting by its own copy, cut to the range of the ratings."""
    mean_rmse: float
    """Mean over peers of each one's RMSE, predictions as they are: what gossipy itself prints."""
    peak_rss_bytes: int
    seconds: float
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised, and what came of it."""

    name: str
    what: str
    at_least: float
    measured: float

    @property
    def verdict(self) -> str:
        return "pass" if self.measured >= self.at_least else "MISSED"


def main() -> None:
    options = _options()
    folder = data_folder(options.data, "ml-100k")
    source = "MovieLens-100K" if folder else "SYNTHETIC: made-up people, as many as MovieLens-100K's"
    people = read_histories(folder) if folder else synthetic_histories(N_PEOPLE, N_ITEMS, 0, mean_history=MEAN_HISTORY)
    print(f"{source}: {len(people)} peers, {options.rounds} rounds, seed {options.seed}")
    print(", ".join(f"{name} {value}" for name, value in machine().items()), end="\n\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="p2prec-peers-") as name:
        runs = run_all(Path(name), people, options)
        constant = own_mean_rmse(people, read_tests(Path(name) / "gossipy" / "tests.csv"))
    targets = judge(runs)
    show(runs, constant, targets)
    if options.json is not None:
        report = {
            "data": source,
            "peers": len(people),
            "rounds": options.rounds,
            "seed": options.seed,
            "settings": options.set,
            "machine": machine(),
            "runs": [asdict(run) for run in runs],
            "own_mean": {"rmse": constant[0], "mean_rmse": constant[1]},
            "targets": [asdict(target) | {"verdict": target.verdict} for target in targets],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(target.verdict == "MISSED" for target in targets))


def run_all(folder: Path, people: Histories, options: argparse.Namespace) -> list[Run]:
    """gossipy first: its split is the one that counts."""
    write_ratings(people, folder)
    common = ["--rounds", str(options.rounds), "--seed", str(options.seed)]
    gossipy = folder / "gossipy"
    example = [folder / "u.data", gossipy, *common, "--factors", str(EXAMPLE_FACTORS)]
    run_program([options.gossipy_python, HERE / "peers_gossipy.py", *example])
    runs = [read_run("gossipy", gossipy)]
    settings = [argument for setting in options.set for argument in ("--set", setting)]
    for factors in (EXAMPLE_FACTORS, TARGET_FACTORS):
        output = folder / f"p2prec-{factors}"
        same = [folder, gossipy / "tests.csv", output, *common, "--factors", str(factors)]
        run_program([sys.executable, HERE / "peers_p2prec.py", *same, *settings])
        runs.append(read_run("p2prec", output))
    return runs


def run_program(line: Sequence[str | Path]) -> None:
    """To its end, what it prints on our stderr."""
    subprocess.run([str(word) for word in line], stdout=sys.stderr, check=True)


def write_ratings(people: Histories, folder: Path) -> None:
    """ratings.csv for p2prec, and the same rows as u.data for gossipy."""
    users = np.repeat(np.arange(len(people)), np.diff(people.offsets))
    rows = [
        [people.users[user], people.catalogue.keys[item], rating, int(time)]
        for user, item, rating, time in zip(
            users.tolist(), people.items.tolist(), people.values.tolist(), people.times.tolist(), strict=True
        )
    ]
    with (folder / "ratings.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["user", "item", "rating", "timestamp"], *rows])
    with (folder / "u.data").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Tests:
    """Held-out ratings and their predictions, one row each."""

    keys: list[tuple[str, str]]
    """User and item."""
    ratings: np.ndarray
    predicted: np.ndarray


def read_tests(path: Path) -> Tests:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ratings, predicted = (np.array([float(row[name]) for row in rows]) for name in ("rating", "predicted"))
    return Tests([(row["user"], row["item"]) for row in rows], ratings, predicted)


def read_run(name: str, folder: Path) -> Run:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    tests = read_tests(folder / "tests.csv")
    peer_rounds = report["peers"] * report["rounds"]
    rmse, mean_rmse = both_rmse(tests)
    return Run(
        f"{name} d={report['n_factors']}",
        report["n_factors"],
        peer_rounds / report["seconds"],
        peer_rounds / report["cpu_seconds"],
        report["bytes_per_peer_round"],
        rmse,
        mean_rmse,
        report["peak_rss_bytes"],
        report["seconds"],
        report["versions"],
    )


def both_rmse(tests: Tests) -> tuple[float, float]:
    """Over all rows with predictions cut to the ratings' range, and the mean over users with predictions as they are."""
    low, high = tests.ratings.min(), tests.ratings.max()
    pooled = np.sqrt(np.mean((np.clip(tests.predicted, low, high) - tests.ratings) ** 2))
    _, user = np.unique([user for user, _ in tests.keys], return_inverse=True)
    squared = np.bincount(user, (tests.predicted - tests.ratings) ** 2) / np.bincount(user)
    return float(pooled), float(np.sqrt(squared).mean())


def own_mean_rmse(people: Histories, tests: Tests) -> tuple[float, float]:
    """What a peer gets without any network: it predicts the mean of its own ratings."""
    held_out = set(tests.keys)
    means = {}
    for number, user in enumerate(people.users):
        pairs = people.of(number)
        keys = [(user, people.catalogue.keys[item]) for item in pairs.items]
        means[user] = float(np.mean([v for key, v in zip(keys, pairs.values, strict=True) if key not in held_out]))
    predicted = np.array([means[user] for user, _ in tests.keys])
    return both_rmse(Tests(tests.keys, tests.ratings, predicted))


def judge(runs: Sequence[Run]) -> list[Target]:
    """p2prec's speed at the target's d, and how many times gossipy's it is at the same d."""
    gossipy, same, target = runs
    speedup = same.peer_rounds_per_second / gossipy.peer_rounds_per_second
    return [
        Target(
            "speed",
            f"peer-rounds a second, d = {target.n_factors}",
            MIN_PEER_ROUNDS_PER_S,
            target.peer_rounds_per_second,
        ),
        Target("speedup", f"times gossipy's speed, d = {same.n_factors}", MIN_SPEEDUP, speedup),
    ]


def show(runs: Sequence[Run], constant: tuple[float, float], targets: Sequence[Target]) -> None:
    header = f"{'':<11} {'peer-rounds/s':>14} {'per CPU s':>10} {'bytes/peer-round':>17}"
    print(f"{header} {'RMSE':>7} {'mean RMSE':>10} {'peak MB':>8} {'seconds':>8}")
    for run in runs:
        line = f"{run.name:<11} {run.peer_rounds_per_second:>14,.0f}"
        line += f" {run.peer_rounds_per_cpu_second:>10,.0f} {run.bytes_per_peer_round:>17,.0f} {run.rmse:>7.4f}"
        print(f"{line} {run.mean_rmse:>10.4f} {run.peak_rss_bytes / 1e6:>8,.0f} {run.seconds:>8.1f}")
    print(f"{'own mean, no network':<54} {constant[0]:>7.4f} {constant[1]:>10.4f}\n")
    for target in targets:
        print(f"{target.what:<29} {target.measured:>8,.1f}  at least {target.at_least:<6,g} {target.verdict}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds ml-100k/ratings.csv.gz")
    parser.add_argument("--rounds", type=int, default=100, help="of both (default 100, as in the example)")
    parser.add_argument("--seed", type=int, default=42, help="of both (default 42, as in the example)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of p2prec, as in p2prec lab run"
    )
    parser.add_argument(
        "--gossipy-python",
        type=Path,
        default=ROOT / ".venv-gossipy" / "bin" / "python",
        metavar="FILE",
        help="of an environment with gossipy-dfl (default: the one that make bench-peers makes)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
