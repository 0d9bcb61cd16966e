"""The elements of msgpack arrays from outside, each checked for its type and bounds. Whatever fails is "malformed"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgpack

from p2prec.errors import RemoteMisbehaviour
from p2prec.peer.messages import Refusal
from p2prec.wire.limits import MAX_DETAIL_CHARACTERS

_PRINTABLE_ASCII = re.compile(r"[ -~]*")


def unpack_array(data: bytes, *, max_items: int) -> Sequence[Any]:
    """Read one msgpack array of at most `max_items`, and nothing after it. Raises RemoteMisbehaviour ("malformed").

    No allocation exceeds a small multiple of `len(data)`: nothing inside may claim more than is there.
    """
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            max_str_len=min(len(data), MAX_DETAIL_CHARACTERS),
            max_bin_len=len(data),
            max_array_len=max_items,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise malformed(f"not the expected msgpack ({type(error).__name__})") from error
    if not isinstance(value, tuple):
        raise malformed("not a msgpack array")
    return value


def exactly(fields: Sequence[Any], count: int) -> Sequence[Any]:
    """The fields themselves, of which there must be `count`."""
    if len(fields) != count:
        raise malformed(f"{len(fields)} fields instead of {count}")
    return fields


def binary(value: Any, name: str, n_bytes: int) -> bytes:
    """A bin of exactly `n_bytes`."""
    if not isinstance(value, bytes):
        raise malformed(f"{name} is not binary")
    if len(value) != n_bytes:
        raise malformed(f"{name} has {len(value)} bytes instead of {n_bytes}")
    return value


def uint(value: Any, name: str, low: int, high: int) -> int:
    """An integer within both bounds."""
    if type(value) is not int:  # a bool is an int to isinstance
        raise malformed(f"{name} is not an integer")
    if not low <= value <= high:
        raise malformed(f"{name} is not within {low} to {high}")
    return value


def text(value: Any, name: str, max_characters: int) -> str:
    """Printable ASCII alone: these texts end up in logs and terminals."""
    if not isinstance(value, str) or not _PRINTABLE_ASCII.fullmatch(value):
        raise malformed(f"{name} is not printable ASCII text")
    if len(value) > max_characters:
        raise malformed(f"{name} has more than {max_characters} characters")
    return value


def malformed(detail: str) -> RemoteMisbehaviour:
    return RemoteMisbehaviour(Refusal.MALFORMED, detail)
