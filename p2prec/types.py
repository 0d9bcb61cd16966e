"""Identifiers and array aliases shared by every package."""

from __future__ import annotations

from typing import NewType, TypeAlias

import numpy as np
import numpy.typing as npt

PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58 (`12D3KooW...`): the identity multihash of the protobuf-encoded Ed25519 public key."""

SwarmId = NewType("SwarmId", bytes)
"""32 bytes: the SHA-256 of the swarm manifest's canonical form (`p2prec.manifest`)."""

ItemKey = NewType("ItemKey", str)
"""The catalogue's own name of an item, as the user types it (a MovieLens id, an ISBN, a URL)."""

FloatArray: TypeAlias = npt.NDArray[np.float32]
DoubleArray: TypeAlias = npt.NDArray[np.float64]
IndexArray: TypeAlias = npt.NDArray[np.int64]
Int8Array: TypeAlias = npt.NDArray[np.int8]
UInt8Array: TypeAlias = npt.NDArray[np.uint8]
Int16Array: TypeAlias = npt.NDArray[np.int16]
Int32Array: TypeAlias = npt.NDArray[np.int32]
Scales: TypeAlias = npt.NDArray[np.float16]
ScaleCodes: TypeAlias = npt.NDArray[np.uint8]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
