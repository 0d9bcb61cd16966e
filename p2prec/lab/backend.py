"""Where a swarm's arrays are: numpy's, or torch's on a processor or a GPU. The kernels are the same (`torch_array` says how)."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np

from p2prec.errors import UsageError
from p2prec.lab.torch_array import TorchArray
from p2prec.types import IndexArray

PATTERN = r"^(numpy|torch(:[a-z]+(:[0-9]+)?)?)$"
"""`numpy`, `torch` (on the processor) or `torch:DEVICE` as torch names its devices."""


class Backend(Protocol):
    """Takes arrays to where they are computed with and back. What is on the other side passes for numpy's."""

    def array(self, host: np.ndarray) -> np.ndarray:
        """There; may share memory with `host`."""

    def host(self, array: np.ndarray) -> np.ndarray:
        """Back here; may share memory with `array`."""

    def rng(self, rng: np.random.Generator) -> np.random.Generator:
        """Draws arrays of `random` and `normal` there, and what decides who meets whom (`permutation`, `choice`, ...) here."""


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
    def array(self, host: np.ndarray) -> np.ndarray:
        return host

    def host(self, array: np.ndarray) -> np.ndarray:
        return array

    def rng(self, rng: np.random.Generator) -> np.random.Generator:
        return rng


class _Torch:
    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        torch.empty(1, device=self.device)  # now rather than in the middle of a run

    def array(self, host: np.ndarray) -> np.ndarray:
        return cast(np.ndarray, TorchArray.of(host, self.device))

    def host(self, array: Any) -> np.ndarray:
        copied: np.ndarray = array.numpy() if isinstance(array, TorchArray) else array
        return copied

    def rng(self, rng: np.random.Generator) -> np.random.Generator:
        return cast(np.random.Generator, TorchRandom(rng, self.device))


class TorchRandom:
    """Stands in for a `np.random.Generator`: the large draws on the device, by torch's generator, the others by numpy's."""

    def __init__(self, rng: np.random.Generator, device: Any) -> None:
        import torch

        self._host, self._device = rng, device
        self._there = torch.Generator(device).manual_seed(int(rng.integers(2**63)))

    def random(self, size: Any = (), dtype: Any = np.float64) -> TorchArray:
        """Uniform in [0, 1)."""
        import torch

        shape = size if isinstance(size, tuple) else (size,)
        kind = torch.float32 if np.dtype(dtype) == np.float32 else torch.float64
        return TorchArray(torch.rand(shape, generator=self._there, device=self._device, dtype=kind))

    def normal(self, loc: float, scale: float, size: Any) -> TorchArray:
        import torch

        drawn = torch.randn(tuple(size), generator=self._there, device=self._device, dtype=torch.float64)
        return TorchArray(drawn.mul_(scale).add_(loc))

    def permutation(self, x: Any) -> IndexArray:
        permuted: IndexArray = self._host.permutation(x)
        return permuted

    def choice(self, *arguments: Any, **options: Any) -> Any:
        return self._host.choice(*arguments, **options)

    def integers(self, *arguments: Any, **options: Any) -> Any:
        return self._host.integers(*arguments, **options)

    def spawn(self, n_children: int) -> list[np.random.Generator]:
        """Of the host's: for what is decided there."""
        return self._host.spawn(n_children)
