"""What every compiled kernel is compiled with, and random bits from a peer's own generator."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import platformdirs
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

import p2prec
from p2prec.types import IndexArray

_PACKAGE = Path(p2prec.__file__).parent
_SOURCES = sorted([*(_PACKAGE / "lab" / "compiled").glob("*.py"), *(_PACKAGE / "model").glob("*.py")])


def _kept_in() -> str:
    """A folder of its own for each version of the sources: numba would notice a change of a kernel's file, but not of a constant
    that it takes from another.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:16]
    folder = Path(numba.config.CACHE_DIR) if numba.config.CACHE_DIR else platformdirs.user_cache_path("p2prec")
    return str(folder / f"compiled-{digest}")


numba.config.CACHE_DIR = _kept_in()
# No fastmath: every operation rounds as numpy's does, in the same order.
compiled = partial(njit, cache=True, nogil=True, error_model="numpy")


def is_kept(kernel: Any) -> bool:
    """Whether a kernel was compiled on this machine before."""
    name = f"{Path(kernel.py_func.__code__.co_filename).stem}.{kernel.py_func.__qualname__}-"
    return any(Path(kernel.stats.cache_path).glob(f"{name}*.nbi"))


def generators(rngs: Sequence[np.random.Generator]) -> IndexArray:
    """(n, 2): where each generator's function for 32 random bits is, and where its state is. They must outlive the numbers."""
    interfaces = [rng.bit_generator.ctypes for rng in rngs]
    places = [(ctypes.cast(one.next_uint32, ctypes.c_void_p).value or 0, one.state_address) for one in interfaces]
    return np.array(places, np.int64).reshape(-1, 2)


@intrinsic
def next_uint32(_typing: Any, function: Any, state: Any) -> Any:
    """Call a generator's function: the next 32 bits, as numpy draws them."""

    def call(_context: Any, builder: Any, _signature: Any, arguments: Sequence[Any]) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(64)])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])

    return types.uint32(types.int64, types.int64), call


@intrinsic
def fence(_typing: Any) -> Any:
    """What other processes see: nothing written after it before what was written before it; and nothing is read too early."""

    def call(context: Any, builder: Any, _signature: Any, _arguments: Sequence[Any]) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), call
