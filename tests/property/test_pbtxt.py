"""Garbage in a config.pbtxt: whatever is in the file, the answer is a model or a refusal, never another error."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from headgate.errors import PackageError
from headgate.package.folders.base import Asked, ModelSource
from headgate.package.folders.triton import TritonRepository
from headgate.package.folders.triton.format import MODEL_CONFIG
from headgate.spec import parse_spec

CORPUS = sorted((Path(__file__).parent / "corpus" / "pbtxt").iterdir())
WORDS = (
    b"{", b"}", b"[", b"]", b"<", b">", b":", b";", b",", b'"', b"'", b"\\", b"#", b"-", b"\n", b"\0", b"\xff", b" 1e999 ", b" -1 ",
    b" 99999999999999999999 ", b" true ", b" nan ", b" TYPE_FP32 ", b" input ", b" dims: [", b" reshape { shape: ", b" [a.b/c.D] ",
    b" parameters { key: ", b" instance_group ", b" max_batch_size: ", b" model_warmup ", b" version_policy { all { } } ",
    b" sequence_batching { ", b" control_input { name: ", b" state { input_name: ", b" label_filename: ", b" 'labels.txt' ",
    b" ensemble_scheduling { step { model_name: ", b" 'decode' ", b" 'model' ", b" input_map { key: ", b" output_map { key: ", b" value: ",
)  # fmt: skip


@contextmanager
def repository(config: bytes) -> Iterator[Path]:
    """The folder of one model with a version of every back end, and this configuration."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        (model / "1" / "model.savedmodel").mkdir(parents=True)
        (model / "1" / "model.savedmodel" / "saved_model.pb").write_bytes(b"\0")
        for name in ("model.onnx", "model.pt", "model.py"):
            (model / "1" / name).write_bytes(b"\0")
        (model / "config.pbtxt").write_bytes(config)
        (model / "labels.txt").write_bytes(b"cat\n\xc3\xa9")
        for other in ("decode", "score"):  # the steps of the ensemble in the corpus
            (Path(folder) / other / "1").mkdir(parents=True)
            (Path(folder) / other / "1" / "model.onnx").write_bytes(b"\0")
        yield model


def adapted(config: bytes) -> ModelSource | PackageError:
    """What becomes of the model; anything but a `PackageError` is raised."""
    with repository(config) as model:
        try:
            (found,) = TritonRepository.adapt(model, Asked(""))
        except PackageError as error:
            return error
        parse_spec({"name": "model", "model": "model", **found.settings})
        return found


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus(path: Path) -> None:
    """Every file of the corpus is a model with settings that a deployment can have, or is refused by a `PackageError` with words."""
    found = adapted(path.read_bytes())
    assert isinstance(found, ModelSource) or len(str(found)) > 20


def test_the_ensemble_of_the_corpus_is_one() -> None:
    """What is damaged below is whole to begin with, with the models of its steps beside it."""
    found = adapted(next(path for path in CORPUS if path.stem == "ensemble").read_bytes())
    assert isinstance(found, ModelSource) and "decode/1.triton" in found.versions[0].files


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    """Bytes that nobody wrote as a configuration are refused, or are one by chance."""
    adapted(data)


@given(st.data())
def test_damaged_configurations(data: st.DataObject) -> None:
    """A configuration with pieces cut out, doubled and put in is a model, or is refused; what can be parsed can be parsed again."""
    text = data.draw(st.sampled_from(CORPUS)).read_bytes()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 40)))
        piece = data.draw(st.sampled_from(WORDS) | st.just(text[start:stop] * 2) | st.just(b""))
        text = text[:start] + piece + text[stop:]
    adapted(text)
    try:
        message = MODEL_CONFIG.parse(text.decode(), "config.pbtxt")
    except (PackageError, UnicodeDecodeError):
        return
    assert MODEL_CONFIG.parse(str(message), "again") == message or "nan" in str(message)


@pytest.mark.parametrize("depth", [10, 10_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    """Brackets within brackets end in a refusal, not in a full stack."""
    assert isinstance(adapted(b"[" * depth), PackageError)
    assert isinstance(adapted(b"parameters { key: 'a' value { " * depth), PackageError)


def test_a_file_that_is_too_large_is_not_read() -> None:
    """Settings are written by people; a file of gigabytes under their name is not read into memory."""
    found = adapted(b"#" * (5 << 20))
    assert isinstance(found, PackageError) and "4 MiB" in str(found)
