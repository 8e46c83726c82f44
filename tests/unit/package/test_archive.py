"""A package as a tar stream: what goes in comes out, and nothing else comes out."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from headgate.errors import DigestMismatch, PackageError, PayloadTooLarge
from headgate.package.archive import Limits, pack, unpack
from headgate.package.folder import regular_files, verify
from headgate.package.manifest import Manifest

MakePackage = Callable[..., Manifest]


def entry(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    stream.seek(0)
    return stream


def test_a_package_survives_the_way(tmp_path: Path, make_package: MakePackage) -> None:
    """Packed and unpacked, a package has the same digest, and the stream is as long as was said."""
    (tmp_path / "a").mkdir()
    files = {
        "model/saved_model.pb": b"weights" * 1000,
        "model/variables/größe.data": b"",
        f"model/{'d' * 90}/{'f' * 90}": b"x" * 512,
    }
    manifest = make_package(tmp_path / "a", files)
    archive = pack(tmp_path / "a")
    stream = b"".join(archive.chunks)
    assert len(stream) == archive.length
    unpack(io.BytesIO(stream), tmp_path / "b")
    assert verify(tmp_path / "b") == manifest
    assert b"".join(pack(tmp_path / "b").chunks) == stream


def test_a_tar_of_the_shell_is_taken(tmp_path: Path, make_package: MakePackage) -> None:
    """Folders in the archive, and any order of files, are fine."""
    (tmp_path / "a").mkdir()
    manifest = make_package(tmp_path / "a", {"m.onnx": b"1", "code/m.py": b"2"})
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("files", "manifest.json"):
            archive.add(tmp_path / "a" / name, name)
    stream.seek(0)
    unpack(stream, tmp_path / "b")
    assert verify(tmp_path / "b") == manifest


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (tar(entry("files/../../outside", b"x")), "path"),
        (tar(entry("../outside", b"x")), "path"),
        (tar(entry("/tmp/outside", b"x")), "path"),
        (tar(entry("./manifest.json", b"x")), "path"),
        (tar(entry("files/link", type=tarfile.SYMTYPE, linkname="../../outside")), "symbolic link"),
        (tar(entry("files", type=tarfile.SYMTYPE, linkname="..")), "symbolic link"),
        (tar(entry("files/link", type=tarfile.LNKTYPE, linkname="/etc/passwd")), "hard link"),
        (tar(entry("files/null", type=tarfile.CHRTYPE)), "device"),
        (tar(entry("files/disk", type=tarfile.BLKTYPE)), "device"),
        (tar(entry("files/pipe", type=tarfile.FIFOTYPE)), "pipe"),
        (tar(entry("files/a", b"x"), entry("files/a", b"y")), "twice"),
        (tar(entry("files/a", b"x"), entry("files/a/b", b"y")), "twice, or is a file and a folder|twice in the archive"),
        (tar(entry("files/A", b"x"), entry("files/a", b"y")), "same file on some systems"),
        (tar(entry("files/x", b"x", mode=0o4755)), "set-user-id"),
        (tar(entry("files/x", b"x", mode=0o1644)), "sticky"),
        (tar(entry("bin/sh", b"x")), "does not belong"),
        (tar(entry("files", b"x")), "does not belong"),
        (tar(entry("store", type=tarfile.DIRTYPE)), "does not belong"),
        (tar(entry("files/" + "x" * 200, b"x"), form=tarfile.GNU_FORMAT), "type"),
        (tar(entry("files/ü" + "x" * 300, b"x"), form=tarfile.PAX_FORMAT), "type"),
        (io.BytesIO(gzip.compress(tar(entry("files/a", b"x")).getvalue())), "compressed"),
        (io.BytesIO(b"PK\x03\x04" + bytes(600)), "compressed"),
        (io.BytesIO(b""), "ends early"),
        (io.BytesIO(b"\x01" * 512), "damaged"),
        (io.BytesIO(tar(entry("files/a", b"x" * 5000)).getvalue()[:3000]), "early"),
        (io.BytesIO(tar(entry("files/a", b"x" * 700)).getvalue()[: 512 + 700]), "early"),
    ],
)
def test_anything_but_plain_files_is_refused(stream: io.BytesIO, said: str, tmp_path: Path) -> None:
    """Links, devices, paths that leave, doubles, odd bits, extensions, compression, cut-off streams: refused, nothing outside."""
    stream.seek(0)
    (tmp_path / "into").mkdir()
    with pytest.raises(PackageError, match=said):
        unpack(stream, tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["into"]


def test_a_header_cannot_claim_memory(tmp_path: Path) -> None:
    """An extension header that claims terabytes is refused for what it is, before a byte of it is read."""
    info = tarfile.TarInfo("files/a")
    info.type, info.size = tarfile.XHDTYPE, 1 << 42
    with pytest.raises(PackageError, match="type"):
        unpack(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT)), tmp_path)


def test_limits_hold(tmp_path: Path) -> None:
    """Entries and bytes are counted by what headers claim, before anything of the entry is written."""
    stream = tar(*(entry(f"files/{number}", b"x" * 100) for number in range(5)))
    with pytest.raises(PayloadTooLarge, match="more than 4 files"):
        unpack(stream, tmp_path / "a", Limits(entries=4))
    stream.seek(0)
    with pytest.raises(PayloadTooLarge, match="more than 499 bytes"):
        unpack(stream, tmp_path / "b", Limits(bytes=499))
    assert len(regular_files(tmp_path / "b")) == 4
    stream.seek(0)
    unpack(stream, tmp_path / "c", Limits(bytes=500, entries=5))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_stream_never_becomes_another_package(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, make_package: MakePackage
) -> None:
    """Flip any bit of a stream: it is refused, or the very same package comes out (the bit did not matter), or one with another digest.

    A changed manifest may well describe a package that agrees with itself; who asked for the digest sees that it is not that one.
    """
    folder = tmp_path_factory.mktemp("package")
    manifest = make_package(folder, {"m.onnx": b"weights", "b.bin": b"x" * 600})
    stream = bytearray(b"".join(pack(folder).chunks))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    into = tmp_path_factory.mktemp("into")
    try:
        unpack(io.BytesIO(bytes(stream)), into)
        found = verify(into)
    except (PackageError, PayloadTooLarge):
        return
    assert found.encode() == manifest.encode() or found.digest != manifest.digest


def test_links_are_not_packed(tmp_path: Path, make_package: MakePackage) -> None:
    """A folder with a link in it is no package."""
    make_package(tmp_path, {"m.onnx": b"1"})
    (tmp_path / "files" / "link").symlink_to("/etc/passwd")
    with pytest.raises(PackageError, match="files/link"):
        pack(tmp_path)


def test_verify_names_file_and_both_digests(tmp_path: Path, make_package: MakePackage) -> None:
    """One flipped bit: the message holds the file, the digest that was promised and the one that is there."""
    manifest = make_package(tmp_path, {"m.onnx": b"weights"})
    (tmp_path / "files" / "m.onnx").write_bytes(b"weightr")
    with pytest.raises(DigestMismatch) as caught:
        verify(tmp_path)
    assert "files/m.onnx" in str(caught.value)
    assert manifest.files["m.onnx"] in str(caught.value)
    assert hashlib.sha256(b"weightr").hexdigest() in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "files" / "m.onnx").unlink(), "no such file"),
        (lambda folder: (folder / "files" / "extra").write_bytes(b""), "files/extra: not in the manifest"),
        (lambda folder: (folder / "pylock.toml").write_bytes(b""), "pylock.toml: not in the manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b" "), "canonical"),
    ],
)
def test_verify_refuses_more_and_less(
    damage: Callable[[Path], object], said: str, tmp_path: Path, make_package: MakePackage
) -> None:
    """A package holds exactly what its manifest says."""
    make_package(tmp_path, {"m.onnx": b"weights"})
    damage(tmp_path)
    with pytest.raises(PackageError, match=said):
        verify(tmp_path)
