"""Dtypes, tensors and their bytes.

A tensor in flight is *bytes in the Open Inference Protocol's binary form*: little-endian, row-major, no padding; BOOL one byte
0/1; BYTES a uint32 length before each element (binary tensor data extension). In this form rows along axis 0 concatenate and
split as plain bytes, so the gateway batches without NumPy; only the replica turns them into arrays.

This file is on the path of every replica: standard library, and NumPy inside the functions that need it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Buffer = bytes | bytearray | memoryview


class DType(NamedTuple):
    """One datatype of the Open Inference Protocol."""

    name: str
    """As on the wire: ``FP32``."""
    numpy: str
    """NumPy's name for it; ``object`` for BYTES, ``uint16`` bit patterns for BF16."""
    size: int
    """Bytes of one element; 0 for BYTES, whose elements differ."""
    code: int
    """Its number on the link between gateway and replica. Never reused."""
    typecode: str
    """For `array.array` and `memoryview.cast`; empty where neither knows it."""
    kind: str
    """``float``, ``int``, ``uint``, ``bool`` or ``bytes``."""


DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("BOOL", "bool", 1, 1, "?", "bool"),
        DType("UINT8", "uint8", 1, 2, "B", "uint"),
        DType("UINT16", "uint16", 2, 3, "H", "uint"),
        DType("UINT32", "uint32", 4, 4, "I", "uint"),
        DType("UINT64", "uint64", 8, 5, "Q", "uint"),
        DType("INT8", "int8", 1, 6, "b", "int"),
        DType("INT16", "int16", 2, 7, "h", "int"),
        DType("INT32", "int32", 4, 8, "i", "int"),
        DType("INT64", "int64", 8, 9, "q", "int"),
        DType("FP16", "float16", 2, 10, "", "float"),
        DType("FP32", "float32", 4, 11, "f", "float"),
        DType("FP64", "float64", 8, 12, "d", "float"),
        DType("BYTES", "object", 0, 13, "", "bytes"),
        DType("BF16", "uint16", 2, 14, "", "float"),
    )
}
BY_CODE: dict[int, DType] = {d.code: d for d in DTYPES.values()}
BY_NUMPY: dict[str, str] = {d.numpy: d.name for d in DTYPES.values() if d.name not in ("BYTES", "BF16")}
"""The protocol's name by NumPy's, which most frameworks use too; BYTES and BF16 are called differently everywhere."""


class Tensor:
    """A named tensor as bytes.

    ``shape`` holds every dimension, the batch axis included. ``data`` is in the binary form above and has exactly as many bytes
    as dtype and shape say (a BYTES tensor: as many framed elements).
    """

    __slots__ = ("data", "dtype", "name", "shape")

    def __init__(self, name: str, dtype: str, shape: Sequence[int], data: Buffer) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.data = data

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.dtype}, {list(self.shape)}, {len(self.data)} bytes)"


def elements(shape: Iterable[int]) -> int:
    """Return the number of elements of ``shape``; 1 for a scalar."""
    return math.prod(shape)


def frame_bytes(items: Iterable[bytes]) -> bytes:
    """Join byte strings into the binary form of a BYTES tensor."""
    parts: list[bytes] = []
    for item in items:
        parts.append(len(item).to_bytes(4, "little"))
        parts.append(item)
    return b"".join(parts)


def unframe_bytes(data: Buffer, count: int) -> list[bytes]:
    """Split the binary form of a BYTES tensor into its ``count`` elements.

    Raises `ValueError` if a length runs past the end, if elements are missing, or if bytes are left over.
    """
    view = memoryview(data)
    items: list[bytes] = []
    at, end = 0, len(view)
    for _ in range(count):
        if at + 4 > end:
            raise ValueError(f"expected {count} elements, the data ends after {len(items)}")
        stop = at + 4 + int.from_bytes(view[at : at + 4], "little")
        if stop > end:
            raise ValueError(f"element {len(items)} claims {stop - at - 4} bytes, {end - at - 4} are left")
        items.append(bytes(view[at + 4 : stop]))
        at = stop
    if at != end:
        raise ValueError(f"{end - at} bytes are left over after {count} elements")
    return items


def row_offsets(dtype: DType, data: Buffer, shape: Sequence[int], starts: Sequence[int]) -> list[int]:
    """Return the byte offsets in ``data`` at which the rows ``starts`` (ascending, axis 0) begin.

    ``starts`` may end with the number of rows itself, which gives the length of the data.
    """
    width = elements(shape[1:])
    if dtype.size:
        return [start * width * dtype.size for start in starts]
    offsets: list[int] = []
    view = memoryview(data)
    at = element = 0
    for start in starts:
        while element < start * width:
            at += 4 + struct.unpack_from("<I", view, at)[0]
            element += 1
        offsets.append(at)
    return offsets


def to_numpy(dtype: DType, shape: Sequence[int], data: Buffer) -> np.ndarray[Any, Any]:
    """Return the tensor as an array of ``shape``.

    Fixed-size dtypes give a read-only view of ``data``; BYTES gives an object array of `bytes`; BF16 gives float32.
    """
    import numpy as np

    if not dtype.size:
        array = np.empty(elements(shape), dtype=object)
        array[:] = unframe_bytes(data, array.size)
        return array.reshape(shape)
    array = np.frombuffer(data, dtype=dtype.numpy)
    if dtype.name == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(shape)


def from_numpy(dtype: DType, array: np.ndarray[Any, Any]) -> Buffer:
    """Return ``array`` in the binary form of ``dtype``: the inverse of `to_numpy`. Strings are encoded as UTF-8."""
    import numpy as np

    if not dtype.size:
        return frame_bytes(_as_bytes(item) for item in array.ravel().tolist())
    if dtype.name == "BF16":
        bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
        # Round to nearest, ties to even, as hardware does; a NaN must stay one, so its payload is not rounded away.
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        array = np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
    contiguous = np.ascontiguousarray(array, dtype=dtype.numpy)
    return contiguous.data.cast("B") if contiguous.size else b""


def _as_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    return str(item).encode()


def dtype_of(array: np.ndarray[Any, Any]) -> str:
    """Return the OIP name of an array's dtype; strings and objects are BYTES.

    Raises `TypeError` for dtypes the protocol has no name for (complex, datetime, structured).
    """
    if array.dtype.kind in "OUS":
        return "BYTES"
    for dtype in DTYPES.values():
        if dtype.numpy == array.dtype.name and dtype.name != "BF16":
            return dtype.name
    raise TypeError(f"dtype {array.dtype} has no name in the Open Inference Protocol; cast it, for example to float32 or int64")
