"""How much of the cancelling noise is left in a copy: by topology, crashes and rounds.

    python -m p2prec.lab.noise_left --data PATH/ml-100k --seeds 0-4

What is summed is nothing at all, so that everything that is found is noise; figures are over that of a trusted curator with
the same promise (1 would be perfect; the plan itself makes it 1.03 to 1.04).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from p2prec.data.histories import Histories, read_histories
from p2prec.lab import topology
from p2prec.lab.gossip_sum import Crashes, decide, play, weights
from p2prec.lab.private_swarm import Masks, mask_graph, plan_of
from p2prec.lab.schedule import disjoint_batches
from p2prec.lab.seeds import seed_range
from p2prec.types import BoolArray, IndexArray

COLUMNS = 256
VOID = 1.5
"""Above this a sum counts as void (`p2prec.model.pairs.VOID_ABOVE`)."""


def noise_left(
    views: Sequence[IndexArray], rounds: int, crash: float, rng: np.random.Generator, *, inherit: bool = True
) -> float:
    """Root mean square over living copies and COLUMNS values, of what is left after the rounds."""
    n = len(views)
    plan = plan_of(8.0, 1e-5, n).pairs
    pairs, contributing = mask_graph(n, rng)
    masks = Masks(disjoint_batches(rng.permutation(pairs)), contributing, int(rng.integers(2**62)))
    course = decide(views, rounds, Crashes(crash), rng, inherit=inherit)
    block = masks.protected(plan, np.zeros((n, COLUMNS), np.float32), 0)
    play(course, block)
    living: BoolArray = course.alive
    mean = block[living] * (plan.unit / weights(course, contributing)[living, None])
    return float(np.sqrt(np.mean(np.square(mean, dtype=np.float64)))) * plan.mu * n


def _line(found: Sequence[float]) -> str:
    ordered = sorted(found)
    void = sum(one > VOID for one in found)
    return f"{np.median(found):8.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f}); {void} of {len(found)} void"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=seed_range, default=range(5), help="one, or FIRST-LAST (default: 0-4)")
    parser.add_argument("--rounds", default="30")
    parser.add_argument("--crash", default="0,0.1,0.2")
    parser.add_argument("--topology", default=",".join(topology.KINDS))
    parser.add_argument("--no-inheritance", action="store_true")
    arguments = parser.parse_args()
    histories: Histories = read_histories(arguments.data)
    seeds = arguments.seeds
    print(f"{len(histories)} peers, {len(seeds)} seeds: median (smallest to largest)")
    for kind in arguments.topology.split(","):
        for rounds in (int(text) for text in arguments.rounds.split(",")):
            for crash in (float(text) for text in arguments.crash.split(",")):
                found = []
                for seed in seeds:
                    rng = np.random.default_rng([seed, math.floor(crash * 100)])
                    views = topology.neighbours(kind, histories, rng)
                    found.append(noise_left(views, rounds, crash, rng, inherit=not arguments.no_inheritance))
                print(f"{kind:<11}{rounds:>5} rounds, {100 * crash:>3.0f}% crash: {_line(found)}", flush=True)


if __name__ == "__main__":
    main()
