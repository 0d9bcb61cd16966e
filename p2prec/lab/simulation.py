"""The course of a `LabSwarm`, played by production peers: signed messages through the real codec, over a simulated network.

The same generators drive the same schedule and the same noise, so the same numbers come out, to the bit
(tests/simulation/test_parity.py). What is not under test here, when a daemon begins its rounds and whom it finds, is replaced by
the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2prec.config import PeerSettings
from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import TrainingPairs
from p2prec.lab.schedule import Conditions, Schedule
from p2prec.lab.swarm import Traffic, consensus_distance, scores_of
from p2prec.manifest import Manifest
from p2prec.peer.learner import Learner
from p2prec.peer.view import Link, View
from p2prec.sim.world import World
from p2prec.types import FloatArray, IndexArray, PeerId

NEVER_S = 1e9
MESSAGES_PER_EXCHANGE = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """One peer's round."""

    at: float
    partners: tuple[int, ...]
    """Whom to exchange each part of the tables with."""


class Course:
    """A schedule by the clock. Rounds follow each other without a gap; within one, each peer has an equal slice of time."""

    def __init__(self, schedule: Schedule, n_peers: int, begins_at: float, interval_s: float) -> None:
        """schedule: without faults, so that each peer has a turn in every round."""
        self.begins_at = begins_at
        self._schedule = schedule
        self._n_peers = n_peers
        self._interval_s = interval_s
        self._rounds: dict[int, dict[int, Turn]] = {}
        self._drawn = 0

    def turn(self, peer: int, number: int) -> Turn:
        """In round `number`, from 0: at most the one that follows the latest asked for, or the one before."""
        if number == self._drawn:
            self._rounds[number] = self._draw()
            self._rounds.pop(number - 2, None)
            self._drawn += 1
        return self._rounds[number][peer]

    def ends_at(self, number: int) -> float:
        """When round `number` is over, and with it all its exchanges."""
        return self.begins_at + (number + 1) * self._interval_s

    def _draw(self) -> dict[int, Turn]:
        partners: dict[int, list[int]] = {}
        for meeting in self._schedule.round():
            partners.setdefault(meeting.initiator, []).append(meeting.responder)
        slice_s = self._interval_s / self._n_peers
        begin = self.ends_at(self._drawn - 1) + slice_s / 2
        return {peer: Turn(begin + at * slice_s, tuple(own)) for at, (peer, own) in enumerate(partners.items())}


class ScriptedPace:
    """One peer's part in a course (`p2prec.peer.pace.Pace`)."""

    def __init__(self, course: Course, peer: int, ids: Sequence[PeerId]) -> None:
        """ids: of all peers in the course's order; may be filled later."""
        self._course = course
        self._peer = peer
        self._ids = ids
        self._round = 0
        self._partners: tuple[int, ...] = ()

    def first_round(self, now: float) -> float:
        return self._course.turn(self._peer, 0).at

    def next_round(self, due: float, now: float) -> float:
        self._partners = self._course.turn(self._peer, self._round).partners
        self._round += 1
        return self._course.turn(self._peer, self._round).at

    def partner(self, view: View, part: int, asked: frozenset[PeerId]) -> Link | None:
        peer_id = self._ids[self._partners[part]]
        return None if peer_id in asked else view.neighbours[peer_id]


class SimulatedSwarm:
    """N production peers with the links and turns that a `LabSwarm` of the same `rng` has, on a network without faults."""

    def __init__(
        self,
        manifest: Manifest,
        catalogue: Catalogue,
        histories: Sequence[TrainingPairs],
        rng: np.random.Generator,
        views: Sequence[IndexArray],
    ) -> None:
        """histories, rng, views: as of `LabSwarm`. The network's seed is of no account: nothing on it is left to chance."""
        n_peers, n_parts = len(histories), manifest.learning.n_parts
        course_rng, *peer_rngs = rng.spawn(n_peers + 1)
        interval_s = manifest.learning.round_interval_s
        schedule = Schedule(views, n_parts, Conditions(), course_rng)
        self._world = World(manifest, catalogue, settings=_left_alone(n_peers), swarm_size=n_peers)
        # Half a slice of time holds all messages of a turn, or those that make a link.
        latency_s = interval_s / n_peers / 2 / (MESSAGES_PER_EXCHANGE * n_parts + MESSAGES_PER_EXCHANGE)
        self._world.network.latency_s = (latency_s, latency_s)
        self._course = Course(schedule, n_peers, self._world.clock.now + interval_s, interval_s)
        self._done = 0
        ids: list[PeerId] = []
        for peer, (own, learning_rng) in enumerate(zip(histories, peer_rngs, strict=True)):
            pace = ScriptedPace(self._course, peer, ids)
            name = f"10.{peer >> 16}.{peer >> 8 & 255}.{peer & 255}"
            started = self._world.add_unseen(
                name, own.items, own.values, own.times, learning_rng=learning_rng, pace=pace
            )
            ids.append(started.peer_id)
        self.learners: list[Learner] = [peer.learner for peer in self._world.peers.values()]
        self._link(views)
        network = self._world.network
        self._before = network.frames, network.frame_bytes

    @property
    def n_peers(self) -> int:
        return len(self.learners)

    @property
    def traffic(self) -> Traffic:
        """Since all links stand. Bytes are those of whole frames: tables, packing, signatures."""
        network, peers = self._world.network, self._world.peers.values()
        return Traffic(
            messages=network.frames - self._before[0],
            payload_bytes=network.frame_bytes - self._before[1],
            exchanges=sum(peer.peer.exchanges for peer in peers) // 2,
            peer_rounds=sum(peer.peer.rounds for peer in peers),
        )

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.round()

    def round(self) -> None:
        """One round of every peer."""
        self._world.clock.run_until(self._course.ends_at(self._done))
        self._done += 1

    def scores(self) -> FloatArray:
        """(n_peers, n_items) each peer's scores by its own copy of the item factors."""
        return scores_of(self.learners)

    def consensus_distance(self) -> float:
        """How far apart the copies of the item factors are."""
        return consensus_distance([learner.state.item_factors for learner in self.learners])

    def _link(self, views: Sequence[IndexArray]) -> None:
        """Connect along the views, and wait until all links stand."""
        names = list(self._world.peers)
        for peer, view in enumerate(views):
            for other in view[view > peer].tolist():
                self._world.connect(names[peer], names[other])
        self._world.clock.run_until(self._course.begins_at)
        found = [len(peer.peer.neighbours) for peer in self._world.peers.values()]
        assert found == [len(view) for view in views], "a link along the views is missing"


def _left_alone(n_peers: int) -> PeerSettings:
    """Peers that neither look for neighbours nor part with any, and that chance makes do nothing."""
    return PeerSettings(
        target_neighbours=1,
        max_neighbours=n_peers,
        rotate_every_s=NEVER_S,
        peers_request_every_s=NEVER_S,
        tick_interval_s=NEVER_S,
        ping_after_s=NEVER_S,
    )
