"""torch tensors as numpy arrays: the kernels of `p2prec.model`, written for numpy, run on a processor or a GPU as they are.

numpy lets an array type bring its own operations (NEP 13 for operators, NEP 18 for functions): `a + b` and `np.where(...)` on a
`TorchArray` call torch. What the kernels use is implemented here; anything else raises TypeError rather than copy an array to the
host behind our back. The type of a result is decided by numpy's own rules, so both backends round alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

Tensor = Any
"""torch.Tensor. torch is no part of the base install, and nothing here imports it before it is needed."""

_DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
_UFUNCS = {
    "absolute": "abs",
    "bitwise_and": "bitwise_and",
    "bitwise_or": "bitwise_or",
    "bitwise_xor": "bitwise_xor",
    "divide": "true_divide",
    "equal": "eq",
    "greater": "gt",
    "greater_equal": "ge",
    "invert": "bitwise_not",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "left_shift": "bitwise_left_shift",
    "power": "pow",
    "remainder": "remainder",
    "right_shift": "bitwise_right_shift",
} | {
    name: name
    for name in (
        *("add", "subtract", "multiply", "negative", "maximum", "minimum", "floor", "ceil", "sqrt", "exp", "log"),
        *("square", "log2", "isfinite", "isnan", "logical_and", "logical_or", "logical_not", "matmul"),
    )
}
"""numpy's names and torch's."""


@cache
def _torch() -> Any:
    import torch

    return torch


@cache
def _torch_dtype(dtype: np.dtype[Any]) -> Any:
    if dtype.name not in _DTYPES:
        raise TypeError(f"no torch array of {dtype}")
    return getattr(_torch(), dtype.name)


class TorchArray(NDArrayOperatorsMixin):
    """A tensor that numpy's operators and functions work on. Shares the tensor's memory; indexing behaves as numpy's."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @classmethod
    def of(cls, array: np.ndarray, device: Any) -> TorchArray:
        """A copy on a device."""
        return cls(_torch().tensor(array, device=device))

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        copied: np.ndarray = self.tensor.detach().cpu().numpy().copy()
        return copied

    # --- what an array says about itself ---

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        return int(self.tensor.ndim)

    @property
    def size(self) -> int:
        return int(self.tensor.numel())

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(str(self.tensor.dtype).removeprefix("torch."))

    def __len__(self) -> int:
        return len(self.tensor)

    def __bool__(self) -> bool:
        return bool(self.tensor)

    def __float__(self) -> float:
        return float(self.tensor)

    def __int__(self) -> int:
        return int(self.tensor)

    def __repr__(self) -> str:
        return f"TorchArray({self.tensor!r})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("a TorchArray is copied to the host by its numpy() only")

    # --- methods of numpy's arrays that the kernels use ---

    def __getitem__(self, index: Any) -> TorchArray:
        return TorchArray(self.tensor[self._index(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, TorchArray | np.ndarray):
            value = self._operand(value, self.dtype)
        self.tensor[self._index(index)] = value

    def astype(self, dtype: Any, copy: bool = True) -> TorchArray:
        return TorchArray(self.tensor.to(_torch_dtype(np.dtype(dtype)), copy=copy))

    def copy(self, order: str = "K") -> TorchArray:
        return TorchArray(self.tensor.clone())

    def view(self, dtype: Any) -> TorchArray:
        return TorchArray(self.tensor.view(_torch_dtype(np.dtype(dtype))))

    def reshape(self, *shape: Any) -> TorchArray:
        return TorchArray(self.tensor.reshape(*shape))

    def sum(self, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> TorchArray:
        return TorchArray(self.tensor.sum(dim=self._axes(axis), keepdim=keepdims, dtype=self._torch_dtype(dtype)))

    def mean(self, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> TorchArray:
        return TorchArray(self.tensor.mean(dim=self._axes(axis), keepdim=keepdims, dtype=self._torch_dtype(dtype)))

    def min(self, axis: Any = None, keepdims: bool = False) -> TorchArray:
        return TorchArray(_torch().amin(self.tensor, dim=self._axes(axis), keepdim=keepdims))

    def max(self, axis: Any = None, keepdims: bool = False) -> TorchArray:
        return TorchArray(_torch().amax(self.tensor, dim=self._axes(axis), keepdim=keepdims))

    def all(self) -> TorchArray:
        return TorchArray(self.tensor.all())

    def any(self) -> TorchArray:
        return TorchArray(self.tensor.any())

    # --- numpy's protocols ---

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", ())
        if method != "__call__" or options:
            return NotImplemented
        if ufunc.__name__ not in _UFUNCS:
            return NotImplemented
        operation: Callable[..., Tensor] = getattr(_torch(), _UFUNCS[ufunc.__name__])
        *types, result_type = ufunc.resolve_dtypes((*map(_kind, inputs), None))
        operands = [self._operand(value, kind) for value, kind in zip(inputs, types, strict=True)]
        if not out:
            return TorchArray(operation(*operands))
        (target,) = out
        if not isinstance(target, TorchArray):
            return NotImplemented
        if ufunc is not np.matmul and target.dtype == result_type:
            operation(*operands, out=target.tensor)
        else:
            target.tensor.copy_(operation(*operands))
        return target

    def __array_function__(self, function: Any, kinds: Any, arguments: Any, options: Any) -> Any:
        name = f"{function.__module__}.{function.__name__}".removeprefix("numpy.").replace(".", "_")
        implementation = getattr(_functions, name, None)
        return NotImplemented if implementation is None else implementation(self, *arguments, **options)

    # --- between the two ---

    def _operand(self, value: Any, dtype: np.dtype[Any]) -> Tensor:
        """Anything as a tensor of a type; numbers stay on the host, where torch takes them from."""
        wanted = _torch_dtype(np.dtype(dtype))
        if isinstance(value, TorchArray):
            return value.tensor.to(wanted)
        if isinstance(value, np.ndarray) and value.ndim:
            return _torch().tensor(value, device=self.tensor.device).to(wanted)
        return _torch().tensor(np.asarray(value).item(), dtype=wanted)

    def _index(self, index: Any) -> Any:
        if isinstance(index, tuple):
            return tuple(self._index(part) for part in index)
        if isinstance(index, np.ndarray):
            index = TorchArray.of(index, self.tensor.device)
        if not isinstance(index, TorchArray):
            return index
        # torch takes bytes for a mask, as numpy did long ago.
        return index.tensor if index.dtype == np.bool_ else index.tensor.long()

    def _torch_dtype(self, dtype: Any) -> Any:
        return None if dtype is None else _torch_dtype(np.dtype(dtype))

    def _axes(self, axis: Any) -> Any:
        return tuple(range(self.ndim)) if axis is None else axis

    def _new(self, name: str, shape: Any, dtype: Any) -> TorchArray:
        """`zeros` or `ones` where this array is."""
        shape = shape if isinstance(shape, Sequence) else (shape,)
        make = getattr(_torch(), name)
        return TorchArray(make(shape, dtype=_torch_dtype(np.dtype(dtype or np.float64)), device=self.tensor.device))


def _kind(value: Any) -> Any:
    """As numpy's promotion takes it: a plain number adopts the arrays' type, everything else has its own."""
    if isinstance(value, TorchArray | np.ndarray | np.generic):
        return value.dtype
    return np.dtype(np.bool_) if isinstance(value, bool) else type(value)


class _Functions:
    """numpy's functions by name. `one` is the array by whose protocol numpy asks; arguments are numpy's."""

    @staticmethod
    def zeros(one: TorchArray, shape: Any, dtype: Any = None) -> TorchArray:
        return one._new("zeros", shape, dtype)

    @staticmethod
    def zeros_like(one: TorchArray, a: TorchArray, dtype: Any = None) -> TorchArray:
        return one._new("zeros", a.shape, dtype or a.dtype)

    @staticmethod
    def ones_like(one: TorchArray, a: TorchArray, dtype: Any = None) -> TorchArray:
        return one._new("ones", a.shape, dtype or a.dtype)

    @staticmethod
    def where(one: TorchArray, condition: Any, x: Any, y: Any) -> TorchArray:
        kinds = [np.empty((), kind) if isinstance(kind, np.dtype) else kind(0) for kind in (_kind(x), _kind(y))]
        common = np.result_type(*kinds)
        chosen = one._operand(condition, np.dtype(np.bool_)).to(one.tensor.device)
        return TorchArray(_torch().where(chosen, one._operand(x, common), one._operand(y, common)))

    @staticmethod
    def concatenate(one: TorchArray, arrays: Sequence[TorchArray], axis: int = 0) -> TorchArray:
        return TorchArray(_torch().cat(_alike(one, arrays), dim=axis))

    @staticmethod
    def clip(one: TorchArray, a: TorchArray, a_min: Any, a_max: Any) -> TorchArray:
        low, high = (one._operand(bound, a.dtype).to(a.tensor.device) for bound in (a_min, a_max))
        return TorchArray(a.tensor.clamp(low, high))

    @staticmethod
    def nan_to_num(one: TorchArray, x: TorchArray, copy: bool = True, nan: float = 0.0) -> TorchArray:
        return TorchArray(x.tensor.nan_to_num(nan))

    @staticmethod
    def asarray(one: TorchArray, a: Any) -> TorchArray:
        return a if isinstance(a, TorchArray) else TorchArray(_there(a, one))

    @staticmethod
    def ascontiguousarray(one: TorchArray, a: TorchArray) -> TorchArray:
        return TorchArray(a.tensor.contiguous())

    @staticmethod
    def repeat(one: TorchArray, a: TorchArray, repeats: int, axis: int) -> TorchArray:
        return TorchArray(a.tensor.repeat_interleave(repeats, dim=axis))

    @staticmethod
    def take_along_axis(one: TorchArray, arr: TorchArray, indices: TorchArray, axis: int) -> TorchArray:
        return TorchArray(_torch().take_along_dim(arr.tensor, one._index(indices), dim=axis))

    @staticmethod
    def swapaxes(one: TorchArray, a: TorchArray, axis1: int, axis2: int) -> TorchArray:
        return TorchArray(a.tensor.transpose(axis1, axis2))

    @staticmethod
    def broadcast_to(one: TorchArray, array: TorchArray, shape: Sequence[int]) -> TorchArray:
        return TorchArray(array.tensor.broadcast_to(tuple(shape)))

    @staticmethod
    def einsum(one: TorchArray, equation: str, *operands: TorchArray) -> TorchArray:
        return TorchArray(_torch().einsum(equation, *_alike(one, operands)))

    @staticmethod
    def nonzero(one: TorchArray, a: TorchArray) -> tuple[TorchArray, ...]:
        return tuple(map(TorchArray, a.tensor.nonzero(as_tuple=True)))

    @staticmethod
    def partition(one: TorchArray, a: TorchArray, kth: int, axis: int = -1) -> TorchArray:
        return TorchArray(a.tensor.sort(dim=axis).values)  # a sorted array is partitioned everywhere

    @staticmethod
    def linalg_solve(one: TorchArray, a: TorchArray, b: TorchArray) -> TorchArray:
        return TorchArray(_torch().linalg.solve(*_alike(one, (a, b))))

    @staticmethod
    def linalg_eigh(one: TorchArray, a: TorchArray) -> tuple[TorchArray, TorchArray]:
        values, vectors = _torch().linalg.eigh(a.tensor)
        return TorchArray(values), TorchArray(vectors)


_functions = _Functions()
_CONSTANTS: dict[tuple[int, str], tuple[np.ndarray, Tensor]] = {}


def _there(constant: np.ndarray, one: TorchArray) -> Tensor:
    """A module's table, copied to a device once."""
    key = (id(constant), str(one.tensor.device))
    if key not in _CONSTANTS:  # kept with its original, or that one's id could become another's
        _CONSTANTS[key] = constant, _torch().tensor(constant, device=one.tensor.device)
    return _CONSTANTS[key][1]


def _alike(one: TorchArray, arrays: Sequence[Any]) -> list[Tensor]:
    """Of one type, where `one` is."""
    common = np.result_type(*(array.dtype for array in arrays))
    return [one._operand(array, common) for array in arrays]
