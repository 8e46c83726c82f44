"""The binary body of the Open Inference Protocol with whatever may come: tensors that are what was sent, or a refusal that is the client's.

A file of the corpus is a request: ``plan`` names the model, ``json`` and ``hex`` lines are the body in their order, ``header`` is the
Inference-Header-Content-Length where it is not the length of the JSON; ``none``: there is no header. What follows a # is a remark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, strategies as st

from headgate.errors import HeadgateError, InvalidRequest
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan
from headgate.protocols.oip import OIP
from headgate.tensors import DTYPES, elements, frame_bytes, unframe_bytes

CORPUS = sorted((Path(__file__).parent / "corpus" / "oip_binary").glob("*.txt"))


def plan(*specs: tuple[str, str, tuple[int, ...]], optional: bool = False, batched: bool = True) -> Plan:
    """A plan whose outputs are its inputs."""
    inputs = tuple(TensorSpec(name=name, dtype=dtype, shape=shape, optional=optional) for name, dtype, shape in specs)
    outputs = tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in specs)
    return Plan("m", Signature(inputs=inputs, outputs=outputs, batched=batched), max_rows=8, splittable=True)


def new_plans() -> dict[str, Plan]:
    """Plans that have seen nothing."""
    return {
        "floats": plan(("a", "FP32", (-1, 2)), ("b", "FP32", (-1, 2))),
        "types": plan(*((name.lower(), name, (-1, 2)) for name in DTYPES), optional=True),
        "ragged": plan(("x", "UINT8", (-1, -1))),
        "text": plan(("x", "BYTES", (-1, 1))),
        "scalar": plan(("x", "FP64", ()), ("y", "INT32", (2, -1)), batched=False),
    }


class Request(NamedTuple):
    """What the protocol looks at."""

    headers: Mapping[str, str]
    method: str = "POST"
    path: str = "/v2/models/m/infer"
    query: str = ""
    params: Mapping[str, str] = {}


class Sent(NamedTuple):
    """A request of the corpus, or one that was made of it."""

    plan: str
    header: str | None
    body: bytes


def read_corpus(path: Path) -> Sent:
    """Read a file of the corpus."""
    model, header, said = "", "", 0
    body = b""
    for line in path.read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "plan":
            model = rest
        elif word == "header":
            header = rest if rest else " "
        elif word == "json":
            body += rest.encode()
            said = len(body)
        elif word == "hex":
            body += bytes.fromhex(rest)
    return Sent(model, None if header == "none" else header.strip() if header else str(said), body)


SEEDS = [read_corpus(path) for path in CORPUS]


def decoded(protocol: OIP, sent: Sent, into: Plan) -> InferRequest | HeadgateError:
    """Return what becomes of a request; anything but a refusal that is the client's is raised."""
    headers = {} if sent.header is None else {"inference-header-content-length": sent.header}
    try:
        return protocol.decode(Request(headers), sent.body, into)
    except HeadgateError as error:
        refusal = error
    assert 400 <= refusal.status < 500 or refusal.status == 501, refusal
    assert 10 < len(str(refusal)) < 2000
    return refusal


def tensors(infer: InferRequest) -> list[Any]:
    """Return shapes and bytes of the inputs."""
    return [None if data is None else (list(shape), bytes(data)) for shape, data in zip(infer.shapes, infer.data, strict=True)]


def expected(sent: Sent, into: Plan) -> list[Any]:
    """Return the same by the specification, read naively: of a request that is in order, inputs with a size have their turn's bytes."""
    size = int(sent.header or len(sent.body))
    if sent.header is not None and size == 0:
        (only,) = into.inputs
        data = sent.body if only.item_size else frame_bytes([sent.body])
        return [([1, *(len(sent.body) if side < 0 else side for side in only.tail)], data)]
    found: list[Any] = [None] * len(into.inputs)
    at = size
    for tensor in json.loads(sent.body[:size].decode(errors="replace"))["inputs"]:  # keys nobody knows may hold any bytes
        length = (tensor.get("parameters") or {}).get("binary_data_size")
        if length is not None:
            found[into.by_name[tensor["name"]].index] = (tensor["shape"], sent.body[at : at + length])
            at += length
    assert at == len(sent.body)
    return found


def check(sent: Sent) -> InferRequest | HeadgateError:
    """Decode a request twice, the second time by what is known of the first, and answer it; nothing may come of it but what it says."""
    protocol, into = OIP(), new_plans()[sent.plan]
    first, again = (decoded(protocol, sent, into) for _ in range(2))
    if isinstance(first, HeadgateError):
        assert (type(again), str(again)) == (type(first), str(first))
        return first
    assert isinstance(again, InferRequest)
    got = tensors(first)
    assert tensors(again) == got
    assert (again.rows, again.outputs, again.id, again.parameters) == (first.rows, first.outputs, first.id, first.parameters)
    for tensor, wanted in zip(got, expected(sent, into), strict=True):
        assert wanted is None or tensor == wanted, "an input got other bytes than those that were sent for it"
    for tensor, spec in zip(got, into.inputs, strict=True):
        if tensor is not None and spec.item_size:
            assert len(tensor[1]) == elements(tensor[0]) * spec.item_size
        elif tensor is not None:
            unframe_bytes(tensor[1], elements(tensor[0]))
    check_answer(protocol, first, got, into)
    return first


def check_answer(protocol: OIP, infer: InferRequest, got: list[Any], into: Plan) -> None:
    """Give the inputs back as outputs: the sizes in the answer are those of the bytes behind it."""
    outputs = []
    for spec, tensor in zip(into.inputs, got, strict=True):
        shape = [infer.rows, 2] if tensor is None else tensor[0]
        data = tensor[1] if tensor is not None else bytes(elements(shape) * (spec.item_size or 4))
        outputs.append(OutputTensor(spec.name, spec.dtype, shape, data))
    try:
        reply = protocol.encode(infer, InferResponse("m", "1", outputs, Batch(0.0, infer.rows, 0.0)))
    except InvalidRequest:
        return  # bytes that are no text, asked for as JSON
    body = bytes(reply.body)
    size = int(reply.headers.rpartition(b": ")[2]) if reply.headers else len(body)
    described = json.loads(body[:size])["outputs"]
    assert len(body) - size == sum((output.get("parameters") or {}).get("binary_data_size", 0) for output in described)


def test_there_is_a_corpus() -> None:
    """It moves with its test, or the next one would pass by finding nothing; some of it is in order, most is not."""
    taken = [not isinstance(check(sent), HeadgateError) for sent in SEEDS]
    assert taken.count(True) >= 10
    assert taken.count(False) >= 30


@pytest.mark.parametrize("sent", SEEDS, ids=[path.stem for path in CORPUS])
def test_the_corpus_does_no_harm(sent: Sent) -> None:
    """Requests that mattered once, as they are, cut anywhere, and with every byte of them broken."""
    check(sent)
    for at in range(len(sent.body)):
        check(sent._replace(body=sent.body[:at]))
        for byte in (0x00, 0x80, 0xFF, sent.body[at] ^ 1):
            check(sent._replace(body=sent.body[:at] + bytes([byte]) + sent.body[at + 1 :]))
    for header in (0, 1, len(sent.body) - 1, len(sent.body), len(sent.body) + 1, 1 << 64):
        check(sent._replace(header=str(header)))


def test_refusals_are_those_that_were_meant() -> None:
    """Each of these files is refused for the reason it was written for, not by the way for another."""
    reasons = {
        "header_too_long": "inference header size should be in range",
        "header_takes_a_blob": "failed to parse the request JSON buffer",
        "truncated": "expecting 2 additional bytes",
        "no_blob": "expecting 8 additional bytes",
        "more": "unexpected additional input data",
        "size_of_another_shape": "Expected 16, got 8",
        "size_without_header": "Inference-Header-Content-Length",
        "no_room_for_both": "But set 'data' 'binary_data_size'",
        "bytes_length_lies": "expecting 2",
        "bytes_too_many": "expecting 2",
        "bool_of_two": "BOOL bytes must be 0 or 1",
        "twice": "already exists in request",
        "raw_for_two": "Raw request must only have 1 input",
        "shared_memory": "shared memory is disabled",
    }
    files = {path.stem: path for path in CORPUS}
    for name, reason in reasons.items():
        assert reason in str(check(read_corpus(files[name]))), name


@given(st.data())
def test_damaged_requests(data: st.DataObject) -> None:
    """A request of the corpus with pieces cut out, doubled, and put in from another, for any model, under any header."""
    sent = data.draw(st.sampled_from(SEEDS))
    body = sent.body
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        stop = data.draw(st.integers(start, min(len(body), start + 30)))
        other = data.draw(st.sampled_from(SEEDS)).body
        piece = data.draw(
            st.sampled_from(
                [b"", body[start:stop] * 2, other[start:stop], b"0", b"-", b"1e9", b'"', b"\0\0\0\1", b"\xff\xff\xff\xff"]
            )
            | st.binary(max_size=8)
        )
        body = body[:start] + piece + body[stop:]
    lengths = st.sampled_from([sent.header, str(len(body)), "0", None]) | st.integers(0, len(body) + 2).map(str)
    check(Sent(data.draw(st.sampled_from([sent.plan, *new_plans()])), data.draw(lengths), body))


@given(st.data())
def test_whatever_is_described(data: st.DataObject) -> None:
    """Names, datatypes, shapes, sizes and bytes that agree or not, as JSON and as blobs, in any order."""
    model = data.draw(st.sampled_from(sorted(new_plans())))
    inputs = new_plans()[model].inputs
    described, blobs = [], b""
    for spec in data.draw(st.lists(st.sampled_from(inputs), min_size=1, max_size=3)):
        rows = data.draw(st.integers(0, 3))
        fitting = (
            [rows, *(2 if side < 0 else side for side in spec.tail)] if model != "scalar" else [abs(side) for side in spec.tail]
        )
        shape = data.draw(st.just(fitting) | st.lists(st.sampled_from([0, 1, 2, -1, 1 << 31, 1 << 62, 1 << 70]), max_size=3))
        count = min(elements(max(side, 0) for side in shape), 50)
        whole = bytes(count * spec.item_size) if spec.item_size else frame_bytes([b"\xff"] * count)
        blob = data.draw(st.just(whole) | st.binary(max_size=40))
        size: Any = data.draw(st.just(len(blob)) | st.integers(-1, 60) | st.sampled_from([None, True, "8", 1 << 70]))
        tensor: dict[str, Any] = {"name": spec.name, "datatype": spec.dtype.name, "shape": shape}
        if data.draw(st.integers(0, 3)):
            tensor["parameters"] = {"binary_data_size": size}
            blobs += blob
        else:
            tensor["data"] = data.draw(st.just([0] * count) | st.lists(st.sampled_from([0, 1, True, "a", None, 0.5]), max_size=4))
        described.append(tensor)
    text = json.dumps({"inputs": described, "parameters": {"binary_data_output": data.draw(st.booleans())}}).encode()
    check(Sent(model, str(data.draw(st.just(len(text)) | st.integers(0, len(text) + len(blobs) + 2))), text + blobs))


@given(st.binary(max_size=200), st.text(max_size=5) | st.integers(0, 220).map(str), st.sampled_from(sorted(new_plans())))
def test_any_bytes(body: bytes, header: str, model: str) -> None:
    """Bytes that nobody wrote as a request, under any header."""
    check(Sent(model, header, body))
