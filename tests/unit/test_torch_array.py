"""torch behind numpy's operators and functions: every operation is numpy's, in value and type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from p2prec.errors import UsageError
from p2prec.lab.backend import backend
from p2prec.lab.torch_array import TorchArray

pytest.importorskip("torch", reason="torch is not installed: pip install 'p2prec[torch]'")

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4, 5)).astype(np.float32)
B = RNG.normal(size=(4, 5)).astype(np.float32)
HALF = (RNG.normal(size=(4, 5)) * 100).astype(np.float16)
BYTES = RNG.integers(-127, 128, (4, 5)).astype(np.int8)
CODES = RNG.integers(0, 256, (4, 5)).astype(np.uint8)
TABLE = RNG.normal(size=256).astype(np.float32)
ROWS = np.array([[0, 3], [2, 2], [1, 0]])
SQUARE = (A @ A.swapaxes(1, 2)).astype(np.float32)


def there(array: np.ndarray) -> Any:
    return TorchArray.of(array, "cpu")


def here(array: Any) -> Any:
    return array.numpy() if isinstance(array, TorchArray) else array


OPERATIONS: list[Callable[..., Any]] = [
    lambda t: t(A) + t(B) * 2 - 1.5,
    lambda t: t(A) * np.float32(2),
    lambda t: t(A) * np.float64(2),
    lambda t: np.float64(2) / t(A),
    lambda t: 1 - t(B),
    lambda t: B + t(A),
    lambda t: t(A) - B,
    lambda t: t(BYTES) * t(HALF).astype(np.float32),
    lambda t: t(BYTES) * t(HALF),
    lambda t: t(BYTES) / 3,
    lambda t: -(t(A) ** 2),
    lambda t: np.sqrt(np.abs(t(A))),
    lambda t: np.sqrt(t(np.arange(5))),
    lambda t: np.floor(t(A)),
    lambda t: np.maximum(t(A), 0),
    lambda t: np.minimum(t(HALF), np.float16(3)),
    lambda t: np.isfinite(t(A) / 0),
    lambda t: (t(A) > 0) & ~(t(A) > 1),
    lambda t: np.exp(t(B)),
    lambda t: t(A) @ t(B).reshape(5, 4),
    lambda t: t(A) @ np.swapaxes(t(A), -1, -2),
    lambda t: t(A)[..., None, :2],
    lambda t: t(A)[np.array([2, 0])],
    lambda t: t(A)[ROWS[:, :1], ROWS],
    lambda t: t(A)[t(A) > 0],
    lambda t: t(A).sum(axis=-1, keepdims=True),
    lambda t: t(A).sum(),
    lambda t: t(A).mean(axis=0, dtype=np.float64),
    lambda t: t(A).min(axis=-1),
    lambda t: t(A).max(),
    lambda t: (t(A) < 0).any(),
    lambda t: np.zeros((2, 3), np.float32, like=t(A)),
    lambda t: np.zeros_like(t(A), np.int8),
    lambda t: np.ones_like(t(A)[..., :1]),
    lambda t: np.where(t(A) > 0, t(A), np.float32(0)),
    lambda t: np.where(t(A) > 0, t(A), 2.0),
    lambda t: np.where(t(HALF) > 0, t(HALF), np.float16(1)),
    lambda t: np.concatenate([t(A)[..., :2], np.ones_like(t(A)[..., :1])], axis=-1),
    lambda t: np.clip(t(A), -1, 1),
    lambda t: np.clip(t(B), np.arange(5, dtype=np.float32) / 10, np.float32(1)),
    lambda t: (t(A).view(np.int32) + 5 >> 20) << 3,
    lambda t: (t(ROWS) - 2) % 3,
    lambda t: np.log2(np.square(t(A))),
    lambda t: np.repeat(t(B)[None], 3, axis=0),
    lambda t: np.swapaxes(np.ascontiguousarray(np.swapaxes(t(A), -1, -2), like=t(A)), -1, -2),
    lambda t: np.asarray(TABLE, like=t(CODES))[t(CODES)],
    lambda t: (t(A) > 9).all(),
    lambda t: np.nan_to_num(t(A) / 0 * 0, nan=3.0),
    lambda t: np.take_along_axis(t(A), t(ROWS)[..., None], axis=-2),
    lambda t: np.broadcast_to(t(B), (3, 4, 5)),
    lambda t: np.einsum("...i,...i->...", t(A), t(A)),
    lambda t: np.nonzero(t(A) > 0)[1],
    lambda t: np.partition(t(B), 2, axis=-1)[:, 2],
    lambda t: np.linalg.solve(t(SQUARE) + np.eye(4, dtype=np.float32), t(A)),
    lambda t: np.linalg.eigh(t(SQUARE))[0],
    lambda t: t(A).astype(np.float16).reshape(6, -1),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=range(len(OPERATIONS)))
def test_an_operation_is_numpys(operation: Callable[..., Any]) -> None:
    with np.errstate(all="ignore"):
        expected = np.asarray(operation(lambda array: array))
    computed = here(operation(there))
    assert computed.dtype == expected.dtype
    assert computed.shape == expected.shape
    np.testing.assert_allclose(computed, expected, rtol=2e-5, atol=1e-5)


CHANGES: list[Callable[..., None]] = [
    lambda a: a.__iadd__(np.float32(1)),
    lambda a: a.__imul__(a[0].copy()),
    lambda a: a.__itruediv__(np.float64(3)),
    lambda a: np.floor(a, out=a),
    lambda a: a.__setitem__((slice(None), 0), 7),
    lambda a: a.__setitem__((..., np.arange(4), np.arange(4)), a[..., np.arange(4), np.arange(4)] + 1),
    lambda a: a.__setitem__(np.array([1, 0]), a[np.array([0, 2])]),
    lambda a: a.__setitem__(a > 0, np.float64(2)),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_changes_in_place_are_numpys(change: Callable[[Any], None]) -> None:
    expected, computed = A.copy(), there(A)
    memory = computed.tensor.data_ptr()
    change(expected)
    change(computed)
    np.testing.assert_allclose(here(computed), expected, rtol=1e-6)
    assert computed.tensor.data_ptr() == memory
    assert computed.dtype == expected.dtype


@pytest.mark.parametrize(
    "operation", [lambda a: np.asarray(a), lambda a: np.sin(a), lambda a: np.cumsum(a), lambda a: np.add.reduce(a)]
)
def test_what_is_not_there_is_an_error_rather_than_a_copy(operation: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError):
        operation(there(A))


def test_backends_by_name() -> None:
    on_torch = backend("torch")
    assert here(on_torch.array(A)).tolist() == A.tolist()
    assert on_torch.host(on_torch.array(A)).tolist() == A.tolist()
    assert backend("numpy").array(A) is A
    for name in ("torch:nonsense", "tensorflow", "numpy:cuda", "torch:cuda:4096"):
        with pytest.raises(UsageError):
            backend(name)


def test_random_arrays_are_drawn_there_and_single_numbers_here() -> None:
    def drawn(seed: int) -> list[Any]:
        rng: Any = backend("torch:cpu").randoms(np.random.default_rng(seed)).of(np.arange(3))
        arrays = [rng.random((200, 3), dtype=np.float32), rng.random((500,)), rng.standard_normal((100, 9))]
        return [*arrays, rng.integers(1000, size=(40,)), rng.integers(10**9), rng.bytes(8)]

    first, again, other = drawn(1), drawn(1), drawn(2)
    for one, same, different in zip(first[:4], again[:4], other[:4], strict=True):
        assert isinstance(one, TorchArray)
        assert here(one).tolist() == here(same).tolist() != here(different).tolist()
    assert first[4:] == again[4:] != other[4:]
    assert [array.dtype for array in first[:4]] == [np.float32, np.float64, np.float64, np.int64]
    assert 0 <= float(first[1].min()) < float(first[1].max()) < 1
    assert float(first[2].mean()) == pytest.approx(0, abs=0.15)
    assert 0 <= int(first[3].min()) < int(first[3].max()) < 1000
