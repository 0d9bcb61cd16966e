"""Follow a running swarm: read what its peers say, record it, and stop when something is true or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from p2prec.testbed.folder import Run, RunFolder, now_s
from p2prec.testbed.sample import Sample

POLL_S = 1.0
STALE_S = 20.0
"""A peer that has said nothing for so long does not run, or cannot."""

Watch = Callable[[float, Sequence[Sample]], None]
"""Told at every look: seconds since the run began, and what each peer last said."""


class Follower:
    """Reads a run's folder again and again. Peers are not asked: they write, at their own pace."""

    def __init__(self, folder: RunFolder, run: Run, watch: Watch = lambda _now, _samples: None) -> None:
        self.run = run
        self._folder = folder
        self._watch = watch
        self.history = folder.history()
        """All that was recorded of the run, in the order in which it was seen."""
        self._recorded = {sample.host: sample.t for sample in self.history}

    def look(self) -> list[Sample]:
        """What each peer last said; what is new goes to the history."""
        samples = self._folder.samples(self.run.began_at)
        new = [sample for sample in samples if sample.t > self._recorded.get(sample.host, -1.0)]
        self._recorded |= {sample.host: sample.t for sample in new}
        self._folder.record(new)
        self.history += new
        return samples

    def until(
        self, reached: Callable[[Sequence[Sample]], bool], seconds: float, step: Callable[[], None] = lambda: None
    ) -> float | None:
        """Follow until `reached` says so of what peers last said, for at most `seconds`.

        step: called at every look. Returns the seconds that it took, None when time was up.
        """
        began = time.monotonic()
        while True:
            step()
            samples = self.look()
            self._watch(now_s(self.run), samples)
            elapsed_s = time.monotonic() - began
            if reached(samples):
                return elapsed_s
            if elapsed_s >= seconds:
                return None
            time.sleep(min(POLL_S, max(0.0, seconds - elapsed_s)))

    def for_seconds(self, seconds: float, step: Callable[[], None] = lambda: None) -> None:
        """Follow for so long."""
        self.until(lambda _: False, seconds, step)


def fresh(samples: Sequence[Sample], now: float) -> list[Sample]:
    """Those of peers that still speak. now: seconds since the run began."""
    return [sample for sample in samples if now - sample.t <= STALE_S]


def all_found(samples: Sequence[Sample], peers: int) -> bool:
    """Whether all have come up and each has found all others."""
    return len(samples) >= peers and all(sample.seen >= peers - 1 for sample in samples)
