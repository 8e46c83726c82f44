"""External data of ONNX models: found without the onnx package, and only plain files below the model's folder are taken."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from headgate.errors import NotFound, PackageError, UnsupportedModel
from headgate.package.external import external_files, locations


def field(number: int, content: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def tensor(location: str) -> bytes:
    """A TensorProto: dims, data type, name, and where its data lies."""
    entries = field(13, field(1, b"location") + field(2, location.encode())) + field(13, field(1, b"offset") + field(2, b"0"))
    return varint(1 << 3) + varint(300) + varint(2 << 3) + b"\x01" + field(8, b"weight") + entries + varint(14 << 3) + b"\x01"


def in_initializer(location: str) -> bytes:
    return varint(1 << 3) + b"\x08" + field(7, field(5, tensor(location)))


def in_subgraph(location: str) -> bytes:
    """The tensor of a constant in the branch of an If."""
    constant = field(1, field(4, b"Constant") + field(5, field(1, b"value") + field(5, tensor(location))))
    return field(7, field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, constant))))


def in_function(location: str) -> bytes:
    return field(25, field(7, field(5, field(10, tensor(location)))))


def in_sparse(location: str) -> bytes:
    return field(7, field(15, field(1, tensor(location))))


@pytest.fixture(params=[in_initializer, in_subgraph, in_function, in_sparse])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a model that refers to a location, at each of the places where one may."""

    def write(location: str) -> Path:
        path = tmp_path / "in" / "m.onnx"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(request.param(location))
        return path

    return write


def test_external_data_is_found(model: Callable[[str], Path]) -> None:
    """Wherever in the model a tensor is, the file that holds its data goes along, at its path relative to the model."""
    path = model("weights/part 1.bin")
    (path.parent / "weights").mkdir()
    (path.parent / "weights" / "part 1.bin").write_bytes(b"\0" * 1200)
    assert external_files(path) == {"weights/part 1.bin": path.parent / "weights" / "part 1.bin"}


@pytest.mark.parametrize("location", ["../outside.bin", "a/../../outside.bin", "{absolute}", "a\\b", "", "."])
def test_paths_that_leave_the_folder_are_refused(location: str, model: Callable[[str], Path], tmp_path: Path) -> None:
    """A model cannot name a file of its choice on the machine that packages it."""
    (tmp_path / "outside.bin").write_bytes(b"secret")
    path = model(location.format(absolute=tmp_path / "outside.bin"))
    with pytest.raises(PackageError, match="external data"):
        external_files(path)


def test_links_and_special_files_are_refused(model: Callable[[str], Path], tmp_path: Path) -> None:
    """A symbolic link, one in a parent folder, a hard link and a pipe are no plain files; a missing file is said by name."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    path = model("sub/data.bin")
    with pytest.raises(NotFound, match=r"'sub/data\.bin' is not there"):
        external_files(path)
    (path.parent / "sub").mkdir()
    data = path.parent / "sub" / "data.bin"
    for make, said in (
        (lambda: data.symlink_to(secret), "link"),
        (lambda: os.link(secret, data), "hard link"),
        (lambda: os.mkfifo(data), "regular"),
    ):
        make()
        with pytest.raises(PackageError, match=said):
            external_files(path)
        data.unlink()
    (path.parent / "sub").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "data.bin").write_bytes(b"x")
    (path.parent / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackageError, match="through a link"):
        external_files(path)


def test_a_cut_off_model_is_refused(tmp_path: Path) -> None:
    """A half-copied model is said to be one, at whatever byte it ends."""
    whole = in_initializer("weights.bin")
    for end in range(3, len(whole)):
        (tmp_path / "m.onnx").write_bytes(whole[:end])
        with pytest.raises(UnsupportedModel, match="cut off"):
            list(locations(tmp_path / "m.onnx"))


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_either_walked_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No file makes the walk fail in another way, or run for ever."""
    path = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(data)
    with contextlib.suppress(UnsupportedModel):
        assert all(isinstance(location, str) for location in locations(path))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """Graphs within graphs beyond any real model end in a refusal, not in a stack overflow."""
    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "m.onnx").write_bytes(field(7, graph))
    with pytest.raises(UnsupportedModel, match="too deeply"):
        list(locations(tmp_path / "m.onnx"))
