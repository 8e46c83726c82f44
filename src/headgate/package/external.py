"""The files beside an ONNX model that hold its large weights ("external data").

Their names stand in the model, so whoever wrote the model chose which files are read: only plain files below its folder are taken.
The model is walked as protobuf here, without the ``onnx`` package. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from headgate.errors import NotFound, PackageError, UnsupportedModel

_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
"""Message -> field -> message, as far as it leads to a tensor."""
_MAX_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_files(model: Path) -> dict[str, Path]:
    """Return the files that the ONNX file ``model`` refers to, by their path relative to its folder.

    Raises `NotFound` for one that is missing, `PackageError` for one that is not a plain file below the folder (an absolute path,
    ``..``, links of both kinds, pipes), and `UnsupportedModel` for a file that is no ONNX model or is cut off.
    """
    root = model.parent
    return {location: _plain_file(root, location, model.name) for location in sorted(set(locations(model)))}


def locations(model: Path) -> Iterator[str]:
    """Yield the location of every tensor that is stored outside of ``model``."""
    with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            yield from _locations(data, 0, len(data), "model", 0)
        except (IndexError, ValueError) as error:
            raise UnsupportedModel(f"{model.name}: not an ONNX model, or cut off ({error}); export or copy it again") from error


def _locations(data: mmap.mmap, at: int, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs are nested too deeply")
    for field, start, stop in _fields(data, at, end):
        inner = _NESTED[kind].get(field)
        if inner == "entry":
            if _text(data, start, stop, 1) == b"location":
                yield (_text(data, start, stop, 2) or b"").decode()
        elif inner is not None:
            yield from _locations(data, start, stop, inner, depth + 1)


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each length-delimited field of the message between ``at`` and ``end``."""
    while at < end:
        key, at = _varint(data, at, end)
        wire = key & 7
        if wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire == _BYTES:
            length, at = _varint(data, at, end)
            if at + length > end:
                raise ValueError(f"a field claims {length} bytes, {end - at} are left")
            yield key >> 3, at, at + length
            at += length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
    if at != end:
        raise ValueError("a field runs past its end")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number runs past its end")


def _text(data: mmap.mmap, at: int, end: int, wanted: int) -> bytes | None:
    return next((data[start:stop] for field, start, stop in _fields(data, at, end) if field == wanted), None)


def _plain_file(root: Path, location: str, model: str) -> Path:
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or "\\" in location or "\0" in location:
        raise PackageError(
            f"{model}: its external data {location[:200]!r} is no path below the model's folder; the model is refused"
        )
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise PackageError(f"{model}: its external data {location[:200]!r} goes through a link; put the file itself there")
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{model}: its external data {location[:200]!r} is not there; copy it beside the model") from None
    if not stat.S_ISREG(status.st_mode):
        raise PackageError(f"{model}: its external data {location[:200]!r} is no regular file; the model is refused")
    if status.st_nlink > 1:
        # Two names of one file: the other may lie anywhere, for example where its owner keeps secrets.
        raise PackageError(f"{model}: its external data {location[:200]!r} has a second name (a hard link); put a copy there")
    return path
