"""ONNX: what the session is asked and how it answers, on the samples made in the environment that has the converters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from runtime_samples import samples_of

from headgate.errors import MissingDependency, UnsupportedModel
from headgate.runtimes.base import InvalidInput
from headgate.runtimes.onnx import OnnxRuntime

pytestmark = pytest.mark.slow


def loaded(name: str, device: str = "cpu") -> OnnxRuntime:
    runtime = OnnxRuntime()
    runtime.load(samples_of("onnx") / name, attribute="", device=device, threads=1)
    return runtime


def test_it_does_not_wait_spinning_between_batches() -> None:
    options = loaded("mlp.onnx")._session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_a_wrong_shape_is_the_inputs_fault() -> None:
    with pytest.raises(InvalidInput, match="Got invalid dimensions for input: X"):
        loaded("mlp.onnx").predict({"X": np.zeros((2, 29), np.float32)}, {})


def test_text_that_is_not_utf8_is_the_inputs_fault() -> None:
    inputs = {"age": np.ones((1, 1), np.float32), "city": np.array([[b"\xff\xfe"]], dtype=object)}
    with pytest.raises(InvalidInput, match="input 'city' is not UTF-8 text"):
        loaded("mixed.onnx").predict(inputs, {})


def test_a_constant_may_be_replaced() -> None:
    runtime = loaded("scaled.onnx")
    feed = {"v": np.ones(4, np.float32), "factor": np.array(3, np.float32)}
    assert runtime.predict(feed, {})["y"].tolist() == [4.0] * 4
    assert runtime.predict({**feed, "shift": np.full(4, 10, np.float32)}, {})["y"].tolist() == [13.0] * 4


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_a_device_that_this_build_lacks_says_what_to_install() -> None:
    with pytest.raises(MissingDependency, match=r"device cuda:1 needs ONNX Runtime with CUDA.*onnxruntime-gpu"):
        loaded("mlp.onnx", "cuda:1")


def test_a_file_that_is_not_onnx(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("hello")
    with pytest.raises(UnsupportedModel, match=r"ONNX cannot load m\.onnx: ONNX Runtime says .*Save or copy it again"):
        OnnxRuntime().load(tmp_path / "m.onnx", attribute="", device="cpu", threads=1)
