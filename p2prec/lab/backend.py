"""Where a swarm's arrays are: numpy's, or torch's on a processor or a GPU. The kernels are the same (`torch_array` says how)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol, cast

import numpy as np

from p2prec.errors import UsageError
from p2prec.lab.torch_array import TorchArray
from p2prec.types import IndexArray

PATTERN = r"^(auto|numpy|numba|torch(:[a-z]+(:[0-9]+)?)?)$"
"""`auto`: `numba` where it is installed, else `numpy`, to the same result. `torch` (on the processor) or `torch:DEVICE` as torch
names its devices."""
_ON_A_PROCESSOR = 16
"""So many tables stay in a processor's cache."""
_ON_A_DEVICE = 1024
"""Enough to keep a GPU busy; their copies take 0.6 GB with 3,706 items and 17 columns."""


def can_compile() -> bool:
    """Whether numba is installed, without which `p2prec.lab.compiled` cannot be imported."""
    return find_spec("numba") is not None


class Randoms(Protocol):
    """Where the peers' random numbers come from."""

    def of(self, peers: IndexArray) -> np.random.Generator:
        """For one operation on these peers' arrays, stacked in this order."""


class Backend(Protocol):
    """Takes arrays to where they are computed with, and back. What is there passes for numpy's."""

    peers_at_once: int
    """How many peers' tables an operation should take."""

    def array(self, host: np.ndarray) -> np.ndarray:
        """There; may share memory with `host`."""

    def host(self, array: np.ndarray) -> np.ndarray:
        """Back here; may share memory with `array`."""

    def randoms(self, rng: np.random.Generator) -> Randoms:
        """Drawn there; rng decides them all."""


def backend(name: str) -> Backend:
    """By its name in an experiment's configuration. Raises UsageError when torch or the device is missing."""
    kind, _, device = name.partition(":")
    if kind == "numpy" and not device:
        return _Numpy()
    if kind != "torch":
        raise UsageError(f"no backend {name}", remedy="there are numpy, torch and torch:DEVICE, such as torch:cuda")
    try:
        return _Torch(device or "cpu")
    except ImportError as error:
        raise UsageError(f"--backend {name} needs torch", remedy="pip install 'p2prec[torch]'") from error
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that it was not built for
        raise UsageError(f"--backend {name}: {str(error).splitlines()[0]}") from error


class _Numpy:
    peers_at_once = _ON_A_PROCESSOR

    def array(self, host: np.ndarray) -> np.ndarray:
        return host

    def host(self, array: np.ndarray) -> np.ndarray:
        return array

    def randoms(self, rng: np.random.Generator) -> Randoms:
        return _Common(rng)


class _Torch:
    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        torch.empty(1, device=self.device)  # now rather than in the middle of a run
        self.peers_at_once = _ON_A_DEVICE
        if self.device.type == "cpu":
            self.peers_at_once = _ON_A_PROCESSOR
            # Operations this small take longer to share than to do: three times as long, and more where others want the cores.
            torch.set_num_threads(1)

    def array(self, host: np.ndarray) -> np.ndarray:
        return cast(np.ndarray, TorchArray.of(host, self.device))

    def host(self, array: Any) -> np.ndarray:
        copied: np.ndarray = array.numpy() if isinstance(array, TorchArray) else array
        return copied

    def randoms(self, rng: np.random.Generator) -> Randoms:
        return _Common(cast(np.random.Generator, TorchRandom(rng, self.device)))


class _Common:
    """One stream for all."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def of(self, peers: IndexArray) -> np.random.Generator:
        return self._rng


class TorchRandom:
    """What the kernels use of a `np.random.Generator`: arrays are drawn on the device, single numbers and bytes on the host."""

    def __init__(self, rng: np.random.Generator, device: Any) -> None:
        import torch

        self._host, self._device = rng, device
        self._there = torch.Generator(device).manual_seed(int(rng.integers(2**63)))

    def random(self, size: Sequence[int], dtype: Any = np.float64) -> TorchArray:
        """Uniform in [0, 1)."""
        import torch

        kind = torch.float32 if np.dtype(dtype) == np.float32 else torch.float64
        return TorchArray(torch.rand(tuple(size), generator=self._there, device=self._device, dtype=kind))

    def standard_normal(self, size: Sequence[int]) -> TorchArray:
        import torch

        return TorchArray(torch.randn(tuple(size), generator=self._there, device=self._device, dtype=torch.float64))

    def integers(self, high: int, size: Sequence[int] | None = None) -> Any:
        """0 to high - 1."""
        import torch

        if size is None:
            return self._host.integers(high)
        return TorchArray(torch.randint(high, tuple(size), generator=self._there, device=self._device))

    def bytes(self, length: int) -> bytes:
        return self._host.bytes(length)
