"""An interpreter for the daemon that is small from its first instruction: what can only be chosen before a process starts.

Measured with MovieLens-1M's catalogue (make bench): one BLAS thread and a frugal malloc save 5 MB, no docstrings 3 MB more.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys

from p2prec import __version__

ENVIRONMENT = {
    # One small matrix at a time: threads would only cost memory.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc: one arena, and arrays of 64 kB or more are given back as soon as they are freed.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    # Bytecode that knows lines, not columns: tracebacks without carets, and a fifth of a megabyte less.
    "PYTHONNODEBUGRANGES": "1",
}
MODULES = ("p2prec.api.control", "p2prec.api.live", "p2prec.daemon.daemon", "p2prec.discovery.mdns", "numpy.random")
"""Importing these imports all that a daemon needs."""
OPTIONAL_MODULES = {
    "p2prec.daemon.promise": "p2prec",
    "p2prec.api.promise": "p2prec",
    "p2prec.api.pair_queries": "p2prec",
    "p2prec.transport.libp2p.transport": "libp2p",
}
"""What only some daemons need, and the package that has to be installed for it."""
COMPILE_DEADLINE_S = 120.0


def interpreter() -> tuple[list[str], dict[str, str]]:
    """Options and environment for the daemon's process; the user's own environment wins over ours.

    Without docstrings (-OO), if bytecode compiled so can be kept in the user's cache: compiling at every start would cost more
    than it saves. The first start of a version fills the cache, in a process of its own (half a second).
    """
    import platformdirs  # not above: the daemon imports this module too, and this is half a megabyte with all that it imports

    environment = {**ENVIRONMENT, **os.environ}
    cache = platformdirs.user_cache_path("p2prec") / "bytecode"
    stamp = cache / f"p2prec-{__version__}-{sys.implementation.cache_tag}"
    # What the user said of bytecode is about the installation's folders, which this leaves alone.
    lean = {**environment, "PYTHONPYCACHEPREFIX": str(cache)}
    lean.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        if not stamp.exists():
            cache.mkdir(parents=True, exist_ok=True)
            compile_all = "from p2prec.cli import lean; lean.import_all(); lean.import_optional()"
            subprocess.run([sys.executable, "-OO", "-c", compile_all], env=lean, check=True, timeout=COMPILE_DEADLINE_S)
            stamp.touch()
    except (OSError, subprocess.SubprocessError):
        return [], environment
    return ["-OO"], lean


def import_all() -> None:
    """Load what the daemon needs, so that its bytecode is cached."""
    for module in MODULES:
        importlib.import_module(module)


def import_optional() -> None:
    """The same for what the daemon needs only when it is told so, as far as it is installed."""
    for module, package in OPTIONAL_MODULES.items():
        if importlib.util.find_spec(package) is not None:
            importlib.import_module(module)
