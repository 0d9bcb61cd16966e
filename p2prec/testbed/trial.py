"""A fault and what becomes of the swarm: measure, disturb, let it recover by itself, measure again, judge.

The judgement compares the same people with themselves: each peer measures on the part of its own history that no peer has trained
on, so what differs is the model alone. The reference is a run without the fault, or the same swarm just before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from p2prec.testbed.compare import JUDGED, SLOT_S, Interval, Measurement, Ratio, compare, measure
from p2prec.testbed.compose import Container
from p2prec.testbed.faults import Holds, Profile
from p2prec.testbed.folder import now_s
from p2prec.testbed.follow import Follower, fresh
from p2prec.testbed.inject import Bed, Injection
from p2prec.testbed.report import Check
from p2prec.testbed.sample import Sample, by_host

EXCHANGES_TO_BE_BACK = 3
"""New exchanges after the fault that show a peer learns with others again."""
NEIGHBOURS_TO_BE_BACK = 3
BEFORE_WINDOWS = 2
"""Looked back upon at least, if the run was followed for so long. In an older run it is the later half: a model drifts over
minutes, so what a swarm happens to be at is no measure of what it loses."""
MAX_WINDOWS = 6
"""Measured afterwards, while fewer leave a doubt."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is told of a fault, ready for JSON by `asdict`."""

    name: str
    title: str
    note: str
    neighbours_before: float
    neighbours_at_end: float
    """Of the survivors, when the fault stopped: whether it was felt."""
    exchanges_per_s_before: float
    exchanges_per_s_during: float
    back_after_s: float | None
    ratios: dict[str, Ratio]
    """The survivors' NDCG@10 and AUC afterwards over theirs without the fault; empty when that could not be measured."""
    people: int
    """Survivors that were compared."""
    disturbed_s: Interval
    """From the beginning of the fault until quality was measured again: seconds of the run."""
    reference: str
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def try_fault(
    name: str,
    profile: Profile,
    injection: Injection,
    bed: Bed,
    follower: Follower,
    *,
    window_s: float,
    reference: Measurement | None = None,
    disturbed: Sequence[Interval] = (),
) -> Trial:
    """Do the fault to a running swarm and judge it.

    window_s: how long quality is measured at a time. reference: quality without the fault, in place of before. disturbed: when
    earlier faults had it.
    """
    _look_before(follower, bed, window_s)
    fault_s = now_s(follower.run)
    peers_before = {sample.host: sample for sample in follower.look()}
    _disturb(profile, injection, follower)
    healed_s = now_s(follower.run)
    at_end = {sample.host: sample for sample in follower.look()}
    survivors = peers_before.keys() - injection.lost
    exchanges = {host: at_end[host].exchanges for host in survivors}
    back_after_s = follower.until(
        lambda samples: are_back(samples, exchanges, now_s(follower.run)), profile.holds.back_within_s
    )
    # Quality has as long to come back as peers have.
    follower.for_seconds(max(0.0, healed_s + profile.holds.back_within_s - now_s(follower.run)))
    settled_s = now_s(follower.run)
    history = _of(follower, survivors)
    before_s = min(fault_s / 2, fault_s - BEFORE_WINDOWS * window_s)
    before = reference or measure(history, before_s, fault_s, without=disturbed)
    ratios, people = _measure_after(follower, survivors, before, window_s, profile.holds.quality)
    after = {sample.host: sample for sample in follower.look()}
    containers = {container.host: container for container in bed.compose.containers()}
    result = Trial(
        name=name,
        title=profile.title,
        note=injection.note,
        neighbours_before=fmean(peers_before[host].neighbours for host in survivors),
        neighbours_at_end=fmean(at_end[host].neighbours for host in survivors),
        exchanges_per_s_before=_exchange_rate(history, fault_s - window_s, fault_s),
        exchanges_per_s_during=_exchange_rate(history, fault_s, healed_s),
        back_after_s=None if back_after_s is None else round(back_after_s, 1),
        ratios=ratios,
        people=people,
        disturbed_s=(round(fault_s, 1), round(settled_s, 1)),
        reference="a run without the fault" if reference else "the same swarm before the fault",
        checks=judge(
            profile.holds,
            back_after_s=back_after_s,
            ratios=ratios,
            identities=({h: peers_before[h].peer_id for h in survivors}, {h: after[h].peer_id for h in survivors}),
            restarted=_restarted(bed.containers, containers, survivors),
        ),
    )
    injection.restore()
    return result


def _disturb(profile: Profile, injection: Injection, follower: Follower) -> None:
    """Do the fault for as long as it lasts, and undo it whatever happens."""
    began_s = now_s(follower.run)
    over = False

    def step() -> None:
        nonlocal over
        over = injection.step(now_s(follower.run) - began_s)

    try:
        injection.begin()
        follower.until(lambda _: over, profile.hold_s, step)
    finally:
        injection.end()


def are_back(samples: Sequence[Sample], exchanges: Mapping[str, int], now: float) -> bool:
    """Whether each of these hosts speaks, has neighbours and has exchanged since.

    exchanges: of each when the fault ended. now: seconds of the run.
    """
    current = {sample.host: sample for sample in fresh(samples, now)}
    neighbours = min(NEIGHBOURS_TO_BE_BACK, len(exchanges) - 1)
    return all(
        host in current
        and current[host].state == "running"
        and current[host].neighbours >= neighbours
        and current[host].exchanges >= before + EXCHANGES_TO_BE_BACK
        for host, before in exchanges.items()
    )


def _look_before(follower: Follower, bed: Bed, window_s: float) -> None:
    """Follow until the last `window_s` of every peer have been seen; at once when a trial before has seen them."""

    def seen(_: Sequence[Sample]) -> bool:
        since_s = now_s(follower.run) - window_s
        known = by_host(sample for sample in follower.history if sample.t >= since_s)
        return all(
            container.host in known and known[container.host][0].t <= since_s + SLOT_S for container in bed.containers
        )

    follower.until(seen, window_s + SLOT_S)


def _measure_after(
    follower: Follower, survivors: Collection[str], before: Measurement, window_s: float, share: float
) -> tuple[dict[str, Ratio], int]:
    """Measure the survivors for a window, and for another while they seem to fall short, or it is not known well enough."""
    from_s = now_s(follower.run)
    ratios: dict[str, Ratio] = {}
    people = 0
    for _ in range(MAX_WINDOWS):
        follower.for_seconds(window_s)
        ratios, people = compare(before, measure(_of(follower, survivors), from_s, now_s(follower.run)))
        if ratios and all(ratio.value >= share and ratio.reaches(share) for ratio in ratios.values()):
            break
    return ratios, people


def judge(
    holds: Holds,
    *,
    back_after_s: float | None,
    ratios: Mapping[str, Ratio],
    identities: tuple[Mapping[str, str], Mapping[str, str]],
    restarted: Sequence[str],
) -> tuple[Check, ...]:
    """Whether what a profile promises holds.

    identities: peer ids by host, before and after. restarted: containers that crashed.
    """
    back = "not all" if back_after_s is None else f"{back_after_s:.0f} s"
    changed = [host for host, peer_id in identities[0].items() if identities[1].get(host) != peer_id]
    return (
        Check(f"every survivor is back within {holds.back_within_s:.0f} s, by itself", back, back_after_s is not None),
        *(
            Check(
                f"{label} at least {holds.quality:g} times that without the fault",
                str(ratios.get(metric, "not measured")),
                metric in ratios and ratios[metric].reaches(holds.quality),
            )
            for metric, label in JUDGED.items()
        ),
        Check("every survivor is who it was", f"{len(changed)} changed", not changed),
        Check("no survivor crashed", ", ".join(restarted) or "none", not restarted),
    )


def measurement_of_report(report: Mapping[str, Any]) -> Measurement:
    """Quality in the report of a run without a fault."""
    return Measurement({row["person"]: row["quality"] for row in report["per_peer"] if row["quality"] is not None})


def _of(follower: Follower, hosts: Collection[str]) -> dict[str, list[Sample]]:
    """The history of some peers."""
    return by_host(sample for sample in follower.history if sample.host in hosts)


def _exchange_rate(history: Mapping[str, Sequence[Sample]], from_s: float, to_s: float) -> float:
    """Exchanges a second of a peer, mean over peers."""
    rates = []
    for samples in history.values():
        inside = [sample for sample in samples if from_s <= sample.t <= to_s]
        if len(inside) > 1:
            rates.append((inside[-1].exchanges - inside[0].exchanges) / max(1e-9, inside[-1].t - inside[0].t))
    return fmean(rates) if rates else 0.0


def _restarted(before: Iterable[Container], after: Mapping[str, Container], hosts: Iterable[str]) -> list[str]:
    """Containers that ended by themselves, or no longer run."""
    wanted = set(hosts)
    earlier = {container.host: container.restarts for container in before if container.host in wanted}
    return [
        after[host].name if host in after else host
        for host, restarts in earlier.items()
        if host not in after or not after[host].running or after[host].restarts != restarts or after[host].out_of_memory
    ]
