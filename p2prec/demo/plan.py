"""What the demo will run: who, with which history, in which swarm. Written to files that the worker processes read."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from p2prec import manifest as manifests
from p2prec.data.histories import Histories
from p2prec.data.split import held_out
from p2prec.manifest import Manifest, recommended, reference_catalogue
from p2prec.metrics.ranking import RankingScores, ranking_scores
from p2prec.types import BoolArray

HOLDOUT_FRACTION = 0.2
CPU_S_PER_ROUND = 0.016
"""What one peer's round costs an ordinary core, with room to spare: decides how often rounds can be."""


class PlannedPeer(msgspec.Struct, frozen=True):
    """One person of the data set, as a peer."""

    number: int
    """Row of the person in the plan."""
    name: str
    """The data set's name of the person."""
    items: list[str]
    values: list[float]
    times: list[float]
    holdout_secret: bytes
    """Decides which fifth is held out; from the seed, so that a demo can be repeated."""


class WorkerPlan(msgspec.Struct, frozen=True):
    """What one worker process hosts."""

    manifest_path: str
    directory: str
    n_peers: int
    """Of the whole swarm."""
    peers: list[PlannedPeer]
    shown: int
    """Number of the person whose recommendations are shown at the end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole demo."""

    manifest: Manifest
    histories: Histories
    holdout_secrets: tuple[bytes, ...]
    shown: int
    """Index of the person whose recommendations are shown."""

    def test_part(self, person: int) -> BoolArray:
        """Which of a person's rows are held out: the daemon's own rule (`p2prec.daemon.history`)."""
        pairs = self.histories.of(person)
        keys = [self.histories.catalogue.keys[i] for i in pairs.items.tolist()]
        return held_out(keys, self.holdout_secrets[person], HOLDOUT_FRACTION)

    def popularity(self) -> list[RankingScores]:
        """How well the training part's most popular titles rank each person's held-out ones."""
        parts = [(self.histories.of(person).items, self.test_part(person)) for person in range(len(self.histories))]
        counts = np.zeros(len(self.histories.catalogue))
        for items, test in parts:
            counts[items[~test]] += 1
        return [ranking_scores(counts, items[test], items[~test]) for items, test in parts if test.any()]


def make_plan(histories: Histories, *, seed: int, round_interval_s: float) -> Plan:
    """The swarm of these people. seed: everything random that is ours to choose follows from it, but for the swarm's name."""
    learning, privacy = recommended("implicit")
    manifest = Manifest(
        # A name of its own, and so a swarm id of its own: two demos on one machine must not become one swarm.
        name=f"demo-{secrets.token_hex(4)}",
        catalogue=reference_catalogue(histories.catalogue.canonical_csv(), len(histories.catalogue)),
        seed=hashlib.sha256(f"p2prec demo {seed}".encode()).hexdigest(),
        learning=msgspec.structs.replace(learning, round_interval_s=round_interval_s),
        privacy=privacy,
    )
    holdout_secrets = tuple(hashlib.sha256(f"{seed}/{user}".encode()).digest() for user in histories.users)
    lengths = np.diff(histories.offsets)
    shown = int(np.argsort(lengths, kind="stable")[len(lengths) // 2])
    return Plan(manifest, histories, holdout_secrets, shown)


def round_interval_s(n_peers: int, n_processes: int) -> float:
    """As often as this machine can: half a second to ten seconds."""
    cores = min(n_processes, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return float(np.clip(np.round(CPU_S_PER_ROUND * n_peers / cores, 1), 0.5, 10.0))


def write_plans(plan: Plan, directory: Path, n_processes: int) -> list[Path]:
    """One file a worker; people are dealt out in turn."""
    manifest_path = directory / "demo.toml"
    manifest_path.write_text(manifests.dump(plan.manifest), encoding="utf-8")
    catalogue = plan.histories.catalogue
    peers = []
    for person, user in enumerate(plan.histories.users):
        pairs = plan.histories.of(person)
        peers.append(
            PlannedPeer(
                number=person,
                name=user,
                items=[catalogue.keys[i] for i in pairs.items.tolist()],
                values=pairs.values.tolist(),
                times=pairs.times.tolist(),
                holdout_secret=plan.holdout_secrets[person],
            )
        )
    paths = []
    for number in range(min(n_processes, len(peers))):
        own = peers[number::n_processes]
        worker = WorkerPlan(
            manifest_path=str(manifest_path),
            directory=str(directory),
            n_peers=len(peers),
            peers=own,
            shown=plan.shown,
        )
        path = directory / f"worker-{number}.json"
        path.write_bytes(msgspec.json.encode(worker))
        paths.append(path)
    return paths
