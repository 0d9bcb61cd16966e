"""One clock for all daemons of a test, which stands still while they have work to do. A swarm with a promise keeps a timetable;
by this clock a slow or busy machine takes longer for it, and nothing else changes.

The first process has the clock: it moves on while that one's event loop waits, FASTER times as fast as the machine's. Daemons in
processes of their own read it from a file: `python swarm_clock.py CLOCK python -m MODULE ARGUMENTS` runs a module by it.
"""

from __future__ import annotations

import asyncio
import mmap
import runpy
import selectors
import struct
import sys
import time
from pathlib import Path

FASTER = 4.0
"""While everybody waits: a timetable of three minutes takes one, and the work."""
LOOK_EVERY_S = 0.02
"""So often, of the machine's time, a process that does not have the clock looks at it while it waits."""
_FORMAT = "dd"
_real_time = time.monotonic


class SwarmClock:
    """A file that several processes have mapped: when the clock began, and how far it has gone."""

    def __init__(self, path: Path, *, owned: bool) -> None:
        """owned: by this process, which makes the file, and starts at the time that it is."""
        self.path, self.owned = path, owned
        if owned:
            path.write_bytes(struct.pack(_FORMAT, time.time(), 0.0))
        with path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), struct.calcsize(_FORMAT))

        self._began: float = struct.unpack_from(_FORMAT, self._mapped)[0]

    def now(self) -> float:
        """Seconds since 1970."""
        return self._began + self.passed()

    def passed(self) -> float:
        """Seconds since it began: as fine as event loops want them."""
        passed: float = struct.unpack_from(_FORMAT, self._mapped)[1]
        return passed

    def advance(self, seconds: float) -> None:
        struct.pack_into(_FORMAT, self._mapped, 0, self._began, self.passed() + seconds)

    def before_command(self) -> list[str]:
        """What to put in front of a Python command that is to run by this clock."""
        return [sys.executable, __file__, str(self.path)]


class _Selector(selectors.DefaultSelector):
    """Waits as long as it takes by a swarm's clock."""

    def __init__(self, clock: SwarmClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._clock.owned:
            return super().select(LOOK_EVERY_S if timeout is None else min(timeout / FASTER, LOOK_EVERY_S))
        began = _real_time()
        ready = super().select(None if timeout is None else timeout / FASTER)
        passed = FASTER * (_real_time() - began)
        # Never past what the loop wants to be woken for: whoever is woken late by a busy machine is not late by this clock.
        self._clock.advance(passed if timeout is None else min(passed, timeout))
        return ready


class SwarmLoop(asyncio.SelectorEventLoop):
    """An event loop that lives by a swarm's clock."""

    def __init__(self, clock: SwarmClock) -> None:
        self._swarm_clock = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._swarm_clock.passed()


class _Policy(asyncio.DefaultEventLoopPolicy):
    def __init__(self, clock: SwarmClock) -> None:
        super().__init__()
        self._clock = clock

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return SwarmLoop(self._clock)


def main() -> None:
    clock_path, _interpreter, _module_option, module, *arguments = sys.argv[1:]
    clock = SwarmClock(Path(clock_path), owned=False)
    time.time = clock.now
    asyncio.set_event_loop_policy(_Policy(clock))
    sys.argv = [module, *arguments]
    sys.path[0] = ""  # as for `python -m`, not this file's folder
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
