"""A package folder as a tar stream and back.

The stream is plain ustar: regular files and folders, nothing else. What comes back is not trusted: every header is read here rather
than by `tarfile`, which follows links and extensions (and reads an extension header of any claimed size into memory).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from headgate.errors import PackageError, PayloadTooLarge
from headgate.package.folder import regular_files
from headgate.package.manifest import EXAMPLE, FILES, LOCK, MANIFEST, REQUIREMENTS, SAMPLE, check_paths

MAX_BYTES = 64 << 30
"""Bytes of content an archive may have."""
MAX_ENTRIES = 100_000
"""Files and folders an archive may have."""

_BLOCK = 512
_CHUNK = 1 << 20
_TOP = frozenset({MANIFEST, REQUIREMENTS, LOCK, EXAMPLE, SAMPLE})
_FILE_TYPES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE})
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


class Limits(NamedTuple):
    """How much an archive may hold."""

    bytes: int = MAX_BYTES
    entries: int = MAX_ENTRIES


class Archive(NamedTuple):
    """A tar stream that is written while it is read."""

    length: int
    """Bytes of the whole stream."""
    chunks: Iterator[bytes]


def pack(folder: Path) -> Archive:
    """Return the package in ``folder`` as a tar stream: the same bytes for the same package, whoever packs it and when.

    Raises `PackageError` for links and devices, and for paths that are too long for a ustar header (255 bytes).
    """
    files = regular_files(folder)
    headers = {path: _header(path, source.stat().st_size) for path, source in files.items()}
    sizes = [len(headers[path]) + _padded(source.stat().st_size) for path, source in files.items()]
    return Archive(sum(sizes) + 2 * _BLOCK, _stream(files, headers))


def _header(path: str, size: int) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = size, 0o644
    try:
        # GNU form differs from ustar only for sizes from 8 GiB and for long names, and long names are refused.
        block = entry.tobuf(tarfile.GNU_FORMAT if size >= 8 << 30 else tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    except ValueError as error:
        raise PackageError(f"{path}: {error}; use a shorter path") from None
    if len(block) != _BLOCK:
        raise PackageError(f"{path}: longer than 100 bytes, and the file is larger than 8 GiB; use a shorter path")
    return block


def _stream(files: dict[str, Path], headers: dict[str, bytes]) -> Iterator[bytes]:
    for path, source in files.items():
        yield headers[path]
        sent = 0
        with open(source, "rb") as file:
            while chunk := file.read(_CHUNK):
                sent += len(chunk)
                yield chunk
        if padding := _padded(sent) - sent:
            yield bytes(padding)
    yield bytes(2 * _BLOCK)


def unpack(stream: BinaryIO, folder: Path, limits: Limits | None = None) -> None:
    """Write the files of a tar stream below ``folder``, which must be empty.

    The content is not looked at: `headgate.package.folder.verify` does that. Raises `PackageError` for a path that leaves the
    package or comes twice, for anything but regular files and folders, for set-user-id bits, and for a stream that ends early;
    `PayloadTooLarge` above ``limits``. Nothing is ever written outside ``folder``; what is in it after an error is of no use.
    """
    limits = limits or Limits()
    seen: list[str] = []
    left = limits.bytes
    for entries, entry in enumerate(_entries(stream)):
        if entries >= limits.entries:
            raise PayloadTooLarge(f"the archive has more than {limits.entries} files and folders; nothing was stored")
        path = _check_entry(entry)
        if entry.type == tarfile.DIRTYPE:
            continue
        left -= entry.size
        if left < 0:
            raise PayloadTooLarge(f"the archive holds more than {limits.bytes} bytes; nothing was stored")
        seen.append(path)
        _write(stream, folder / path, entry.size)
    check_paths(seen)


def _entries(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the entries of the stream; whoever reads one takes its content from the stream before the next."""
    while True:
        block = stream.read(_BLOCK)
        if len(block) == _BLOCK and not any(block):
            return
        if block.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")):
            raise PackageError("the archive is compressed; send a plain tar (weights hardly shrink)")
        try:
            yield tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise PackageError(f"the archive is damaged or ends early ({error}); nothing was stored. Send it again") from None


def _check_entry(entry: tarfile.TarInfo) -> str:
    path = entry.name.removesuffix("/") if entry.type == tarfile.DIRTYPE else entry.name
    if entry.type != tarfile.DIRTYPE and entry.type not in _FILE_TYPES:
        kind = _KINDS.get(entry.type, f"an entry of type {entry.type!r}")
        raise PackageError(f"{path[:200]!r} is {kind}; only files and folders are taken (tar --format=ustar). Nothing was stored")
    if entry.mode & 0o7000:
        raise PackageError(
            f"{path[:200]!r} has set-user-id, set-group-id or sticky bits ({entry.mode:o}); remove them. Nothing was stored"
        )
    if entry.size < 0 or (entry.type == tarfile.DIRTYPE and entry.size):
        raise PackageError(f"{path[:200]!r} claims {entry.size} bytes; the archive is damaged. Nothing was stored")
    check_paths([path])
    inside = path.startswith(FILES) if entry.type != tarfile.DIRTYPE else f"{path}/".startswith(FILES)
    if not inside and path not in _TOP:
        raise PackageError(
            f"{path[:200]!r} does not belong in a package: it holds {', '.join(sorted(_TOP))} and {FILES}. Nothing was stored"
        )
    return path


def _write(stream: BinaryIO, target: Path, size: int) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # "x": a second entry of the same path must not replace the first.
        with open(target, "xb") as file:
            _copy(stream, file, size)
    except (FileExistsError, NotADirectoryError):
        raise PackageError(f"{target.name!r} comes twice in the archive, or is a file and a folder; nothing was stored") from None
    rest = _padded(size) - size
    if len(stream.read(rest)) != rest:
        raise PackageError("the archive ends early; nothing was stored. Send it again")


def _copy(stream: BinaryIO, file: BinaryIO, size: int) -> None:
    while size:
        chunk = stream.read(min(size, _CHUNK))
        if not chunk:
            raise PackageError(f"the archive ends {size} bytes early; nothing was stored. Send it again")
        file.write(chunk)
        size -= len(chunk)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
