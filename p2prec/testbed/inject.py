"""How each fault is done and undone. Nothing here helps a peer to come back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

from p2prec.testbed.compose import Compose, Container
from p2prec.testbed.faults import Clock, Cpu, Delay, Fault, Flap, Kill, Loss, Partition, Restart
from p2prec.testbed.folder import Run, RunFolder
from p2prec.testbed.namespace import Network, require_rights

STOP_DEADLINE_S = 20
RESTARTS_AT_ONCE = 8


class Bed:
    """The containers that a fault is done to, and the means."""

    def __init__(self, compose: Compose, folder: RunFolder, run: Run, rng: Random) -> None:
        """rng: decides which peers are chosen."""
        self.compose = compose
        self.folder = folder
        self.run = run
        self.rng = rng
        self.containers = [container for container in compose.containers() if container.running]

    def choose(self, share: float) -> list[Container]:
        """That share of the containers, at least one."""
        number = max(1, math.floor(share * len(self.containers) + 0.5))
        return sorted(self.rng.sample(self.containers, number), key=lambda container: container.number)

    def set_cores(self, containers: Sequence[Container], cores: float) -> None:
        if containers:
            self.compose.docker("update", "--cpus", f"{cores:g}", *(container.id for container in containers))

    def restart(self, containers: Sequence[Container]) -> None:
        """Restart these, a few at a time: one after the other would take a weak machine minutes."""

        def one(container: Container) -> None:
            self.compose.docker("restart", "--time", str(STOP_DEADLINE_S), container.id)

        with ThreadPoolExecutor(RESTARTS_AT_ONCE) as pool:
            list(pool.map(one, containers))


class Injection:
    """One fault being done. `begin`, then `step` every second while it lasts, then `end`; `restore` when all is measured."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.note = ""
        """What was done otherwise than the profile says."""

    def begin(self) -> None:
        """Start the fault."""

    def step(self, elapsed_s: float) -> bool:
        """Go on with it, `elapsed_s` after it began; True when it is over."""
        return False

    def end(self) -> None:
        """The fault stops. From now on the peers are on their own."""

    def restore(self) -> None:
        """Afterwards: bring back what the fault took away for good."""

    @property
    def lost(self) -> frozenset[str]:
        """Hosts that are not expected back."""
        return frozenset()


class CpuInjection(Injection):
    def __init__(self, bed: Bed, fault: Cpu) -> None:
        super().__init__(bed)
        self._cores = fault.cores
        self._chosen = bed.choose(fault.share)

    def begin(self) -> None:
        for number, cores in enumerate(self._cores):
            self.bed.set_cores(self._chosen[number :: len(self._cores)], cores)

    def end(self) -> None:
        self.bed.set_cores(self._chosen, self.bed.run.cpus)


class NetworkInjection(Injection):
    """A fault of the network, undone by healing what was touched."""

    def __init__(self, bed: Bed, fault: Loss | Delay | Partition | Flap) -> None:
        super().__init__(bed)
        require_rights()
        self._fault = fault
        self._chosen = bed.containers if isinstance(fault, Partition) else bed.choose(fault.share)
        self._networks = [Network(container.pid) for container in self._chosen]

    def end(self) -> None:
        for network in self._networks:
            network.heal()


class LossInjection(NetworkInjection):
    _fault: Loss

    def begin(self) -> None:
        for network in self._networks:
            network.lose(self._fault.probability)


class DelayInjection(NetworkInjection):
    _fault: Delay

    def begin(self) -> None:
        fault = self._fault
        delayed = [network.delay(fault.delay_ms, fault.jitter_ms, fault.narrow_kbit) for network in self._networks]
        if not all(delayed):
            self.note = f"this kernel has no netem: links of {fault.narrow_kbit} kbit/s instead of a delay"


class PartitionInjection(NetworkInjection):
    _fault: Partition

    def begin(self) -> None:
        n_groups = self._fault.groups
        groups = [self._chosen[number::n_groups] for number in range(n_groups)]
        for number, network in enumerate(self._networks):
            for other, group in enumerate(groups):
                if other != number % n_groups:
                    network.refuse(container.address for container in group)


class FlapInjection(NetworkInjection):
    _fault: Flap
    _up = True

    def step(self, elapsed_s: float) -> bool:
        into_s = elapsed_s % (self._fault.down_s + self._fault.up_s)
        up = into_s >= self._fault.down_s
        if up != self._up:
            for network in self._networks:
                network.link(up=up)
            self._up = up
        return False


class KillInjection(Injection):
    def __init__(self, bed: Bed, fault: Kill) -> None:
        super().__init__(bed)
        self._chosen = bed.choose(fault.share)

    def begin(self) -> None:
        self.bed.compose.docker("kill", *(container.id for container in self._chosen))

    def restore(self) -> None:
        self.bed.compose.docker("start", *(container.id for container in self._chosen))

    @property
    def lost(self) -> frozenset[str]:
        return frozenset(container.host for container in self._chosen)


class RestartInjection(Injection):
    def __init__(self, bed: Bed, fault: Restart) -> None:
        super().__init__(bed)
        self._every_s = fault.every_s
        self._waiting = list(bed.containers)

    def step(self, elapsed_s: float) -> bool:
        done = len(self.bed.containers) - len(self._waiting)
        if self._waiting and elapsed_s >= done * self._every_s:
            self.bed.restart([self._waiting.pop(0)])
        return not self._waiting


class ClockInjection(Injection):
    def __init__(self, bed: Bed, fault: Clock) -> None:
        super().__init__(bed)
        self._offsets_s = fault.offsets_s
        self._chosen = bed.choose(fault.share)

    def begin(self) -> None:
        for number, container in enumerate(self._chosen):
            self.bed.folder.set_clock(container.host, self._offsets_s[number % len(self._offsets_s)])
        self.bed.restart(self._chosen)

    def end(self) -> None:
        for container in self._chosen:
            self.bed.folder.set_clock(container.host, 0)
        self.bed.restart(self._chosen)


def injection(fault: Fault, bed: Bed) -> Injection:
    """How to do `fault`. Raises UsageError when this machine or this user cannot."""
    match fault:
        case Cpu():
            return CpuInjection(bed, fault)
        case Loss():
            return LossInjection(bed, fault)
        case Delay():
            return DelayInjection(bed, fault)
        case Partition():
            return PartitionInjection(bed, fault)
        case Kill():
            return KillInjection(bed, fault)
        case Restart():
            return RestartInjection(bed, fault)
        case Flap():
            return FlapInjection(bed, fault)
        case Clock():
            return ClockInjection(bed, fault)
