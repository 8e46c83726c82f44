"""The text form of protocol buffers: what is wrong is said with its line and the likely spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import PackageError
from headgate.package.folders.triton.format import MODEL_CONFIG

WRONG = {
    "max_batchsize: 3": "config.pbtxt, line 1: ModelConfig has no field 'max_batchsize'; did you mean 'max_batch_size'?",
    "name: 'x'\n\ninput { nme: 'X' }": "config.pbtxt, line 3: ModelInput has no field 'nme'; did you mean 'name'?",
    "input { data_type: TYPE_FP23 }": "config.pbtxt, line 1: DataType has no value 'TYPE_FP23'; did you mean 'TYPE_FP32'?",
    "max_batch_size: 'x'": "Couldn't parse integer",
    "max_batch_size: 1 max_batch_size: 2": "should not have multiple",
    "dynamic_batching { } sequence_batching { }": "another member of oneof",
    "input [ { name: 'a' ]": "config.pbtxt, line 1",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said(text: str) -> None:
    """A field or value that does not exist is named with what was meant; everything else with the parser's words, and the line."""
    with pytest.raises(PackageError) as caught:
        MODEL_CONFIG.parse(text, "config.pbtxt")
    assert WRONG[text] in str(caught.value)
    assert str(caught.value).startswith("config.pbtxt, line ")


def test_reading_a_file(tmp_path: Path) -> None:
    """Comments, both kinds of brackets and lists are read; bytes that are no text are refused by the name of the file."""
    path = tmp_path / "config.pbtxt"
    path.write_text("# ours\nmax_batch_size: 8 # rows\ninput [ { name: 'A' dims: [ 1, -1 ] }, < name: 'B' > ]\n")
    found = MODEL_CONFIG.read(path)
    assert (found.max_batch_size, [(tensor.name, list(tensor.dims)) for tensor in found.input]) == (8, [("A", [1, -1]), ("B", [])])
    path.write_bytes(b"name: '\xff'")
    with pytest.raises(PackageError, match=r"^fraud/config.pbtxt: not UTF-8 text"):
        MODEL_CONFIG.read(path, "fraud/config.pbtxt")


def test_the_messages_stay_out_of_the_common_pool() -> None:
    """Libraries that bring the same messages can be imported beside it: nothing is registered for the whole process."""
    from google.protobuf import descriptor_pool

    MODEL_CONFIG.new()
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelConfig")
