"""Bytes and tensors: what is packed is unpacked the same, for every dtype and shape; and what is broken is refused."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, strategies as st
from hypothesis.extra import numpy as npst

from headgate.errors import InvalidRequest
from headgate.json_tensors import MAX_DEPTH, check_depth, encode_values, pack_nested, unpack_values
from headgate.serving import link
from headgate.tensors import DTYPES, dtype_of, elements, frame_bytes, from_numpy, row_offsets, to_numpy, unframe_bytes

NUMERIC = [name for name, dtype in DTYPES.items() if dtype.typecode and name != "BOOL"]
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays(name: str) -> st.SearchStrategy[Any]:
    """Arrays of one dtype, NaN and infinities included."""
    dtype = DTYPES[name]
    if name == "BYTES":
        return npst.arrays(object, SHAPES, elements=st.binary(max_size=9), fill=st.nothing())
    return npst.arrays(np.float32 if name == "BF16" else dtype.numpy, SHAPES)


@pytest.mark.parametrize("name", DTYPES)
@given(data=st.data())
def test_arrays_survive_their_bytes(name: str, data: st.DataObject) -> None:
    """An array's bytes give the same array back; BF16 keeps what bfloat16 can hold."""
    dtype = DTYPES[name]
    array = data.draw(arrays(name))
    sent = from_numpy(dtype, array)
    back = to_numpy(dtype, array.shape, sent)
    assert back.shape == array.shape
    if name == "BF16":
        again = to_numpy(dtype, array.shape, from_numpy(dtype, back))
        np.testing.assert_array_equal(again, back)
        finite = np.isfinite(array) & np.isfinite(back)
        np.testing.assert_allclose(back[finite], array[finite], rtol=2**-8, atol=2**-133)
    else:
        np.testing.assert_array_equal(back, array)
        assert dtype_of(array) == name
    assert len(sent) == elements(array.shape) * dtype.size or not dtype.size


@given(st.lists(st.binary(max_size=6), max_size=12), st.data())
def test_rows_of_strings_are_cut_at_their_frames(items: list[bytes], data: st.DataObject) -> None:
    """Cutting a BYTES tensor at rows and joining the pieces loses nothing, and each piece is a tensor of its own."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=4)))
    starts = [0, *cuts, len(items)]
    framed = frame_bytes(items)
    offsets = row_offsets(DTYPES["BYTES"], framed, [len(items)], starts)
    for at in range(len(starts) - 1):
        piece = framed[offsets[at] : offsets[at + 1]]
        assert unframe_bytes(piece, starts[at + 1] - starts[at]) == items[starts[at] : starts[at + 1]]
    assert offsets[-1] == len(framed)


@given(st.binary(max_size=40), st.integers(0, 6))
def test_broken_frames_are_refused(data: bytes, count: int) -> None:
    """Bytes that are no frames of that many strings are a ValueError; those that are give themselves back."""
    try:
        items = unframe_bytes(data, count)
    except ValueError:
        return
    assert frame_bytes(items) == data


@pytest.mark.parametrize("name", NUMERIC)
@given(data=st.data())
def test_json_numbers_survive(name: str, data: st.DataObject) -> None:
    """Numbers go through JSON and back exactly, flat or nested, NaN and Infinity as bare tokens."""
    dtype = DTYPES[name]
    array = data.draw(arrays(name).filter(lambda array: array.size))
    written = encode_values(array.tolist())
    read = json.loads(written)
    packed = pack_nested(dtype, array.shape, read, "x")
    np.testing.assert_array_equal(to_numpy(dtype, array.shape, packed), array)
    flat = unpack_values(dtype, packed, array.size, "y")
    assert pack_nested(dtype, array.shape, json.loads(encode_values(flat)), "x") == packed


@pytest.mark.parametrize("name", [name for name in NUMERIC if DTYPES[name].kind != "float"])
@given(value=st.integers())
@example(value=1 << 64)
@example(value=-(1 << 63) - 1)
def test_integers_out_of_range_are_refused(name: str, value: int) -> None:
    """Nothing wraps: an integer that the dtype cannot hold is refused by name and range."""
    dtype = DTYPES[name]
    bounds = np.iinfo(dtype.numpy)
    if bounds.min <= value <= bounds.max:
        assert to_numpy(dtype, [1], pack_nested(dtype, [1], [value], "x"))[0] == value
    else:
        with pytest.raises(InvalidRequest, match=f"out of range for {name}"):
            pack_nested(dtype, [1], [value], "x")


@given(st.integers(0, 150), st.sampled_from(["[]", "{}", "mixed"]), st.integers(0, 200))
def test_depth(depth: int, kind: str, padding: int) -> None:
    """JSON up to the limit passes and one level more does not, however many flat brackets stand beside it."""
    assume(depth > 0)
    opens = {"[]": "[", "{}": '{"a":', "mixed": '[{"a":'}[kind]
    closes = {"[]": "]", "{}": "}", "mixed": "}]"}[kind]
    per = 2 if kind == "mixed" else 1
    body = "[" + opens * (depth // per) + "1" + closes * (depth // per) + ",[]" * padding + ',"[[[{"]'
    true_depth = 1 + depth // per * per
    if true_depth <= MAX_DEPTH:
        check_depth(body.encode())
    else:
        with pytest.raises(InvalidRequest, match="nested deeper"):
            check_depth(body.encode())


@given(
    st.lists(st.tuples(st.sampled_from(list(DTYPES)), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 1)), max_size=5),
    st.binary(max_size=30),
)
def test_frames_survive_the_link(tensors: list[tuple[str, list[int], int]], extra: bytes) -> None:
    """What one side packs the other unpacks: order, shapes, bytes, extra; small tensors inline, large ones in the arena."""
    arena = link.Arena.create()
    try:
        packed = []
        for at, (name, shape, large) in enumerate(tensors):
            content = bytes([at + 1]) * (link.ARENA_FROM + at if large else elements(shape) * (DTYPES[name].size or 5))
            packed.append(link.Packed(at, DTYPES[name].code, shape, [content[:3], content[3:]], len(content)))
        frame = link.pack(link.BATCH, 7, packed, arena, rows=3, nanoseconds=5, extra=extra)
        length, kind, _, _, batch = link.FRAME.unpack_from(frame)
        assert (length, kind, batch) == (len(frame) - 4, link.BATCH, 7)
        message = link.unpack(memoryview(frame)[link.FRAME.size :], arena)
        assert (message.rows, message.nanoseconds, message.extra) == (3, 5, extra)
        assert [(got.tensor, got.dtype, list(got.shape), bytes(got.data)) for got in message.tensors] == [
            (sent.tensor, sent.dtype, list(sent.shape), b"".join(bytes(part) for part in sent.parts)) for sent in packed
        ]
        del message
    finally:
        arena.close()


@given(st.binary(max_size=200))
def test_a_broken_frame_is_an_error_not_a_crash(payload: bytes) -> None:
    """Whatever a peer sends as a batch: it is read, or one of the errors that cut the link."""
    arena = link.Arena.create()
    try:
        message = link.unpack(memoryview(payload), arena)
    except (ValueError, IndexError, struct.error):
        pass
    else:
        assert len(message.tensors) <= len(payload)
    finally:
        arena.close()


def test_infinity_is_said_as_the_client_reads_it() -> None:
    """NaN and the infinities are the bare tokens the real clients send and read, never null."""
    written = encode_values([math.nan, math.inf, -math.inf, 1.5, "null"])
    assert written == b'[NaN,Infinity,-Infinity,1.5,"null"]'
