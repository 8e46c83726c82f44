"""Whatever a client sends to the protocols that speak in rows: a request, or a refusal that is the client's; never anything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from hypothesis import example, given, strategies as st

from headgate.errors import HeadgateError, InvalidRequest
from headgate.json_tensors import encode_values
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan, Protocol
from headgate.protocols.kserve_v1 import KServeV1
from headgate.protocols.mlflow import MLflow
from headgate.protocols.rows import Rows
from headgate.protocols.truss import Truss
from headgate.protocols.truss.values import count_values, from_document, pack, to_document, unpack
from headgate.tensors import DTYPES, elements


class Request(NamedTuple):
    """What a protocol looks at."""

    headers: Mapping[str, str] = {}
    method: str = "POST"
    path: str = "/"
    query: str = ""
    params: Mapping[str, str] = {}


def plan(*specs: tuple[str, str, tuple[int, ...], str], batched: bool = True) -> Plan:
    """A plan whose outputs are its inputs; a question mark after the name says optional."""
    tensors = tuple(
        TensorSpec(name=name.rstrip("?"), dtype=dtype, shape=shape, content=content, optional=name.endswith("?"))
        for name, dtype, shape, content in specs
    )
    outputs = tuple(msgspec.structs.replace(tensor, optional=False) for tensor in tensors)
    return Plan("m", Signature(inputs=tensors, outputs=outputs, batched=batched, parameters=True), max_rows=4, splittable=True)


PLANS = (
    plan(("x", "FP32", (-1, 2), "")),
    plan(("x", "INT8", (-1,), ""), ("t", "BYTES", (-1,), ""), ("b?", "BOOL", (-1, 1), "")),
    plan(("x", "BYTES", (-1,), "json")),
    plan(("x", "BYTES", (-1,), "binary")),
    plan(("x", "BYTES", (-1, 1), "")),
    plan(("x", "FP16", (-1, -1, -1), "")),
    plan(("x", "BYTES", (), "json"), batched=False),
    plan(("x", "FP64", (), ""), ("t", "UINT8", (2, -1), ""), batched=False),
)
PROTOCOLS: tuple[Protocol, ...] = (KServeV1(), MLflow(), Rows(), Truss())
WORDS = st.sampled_from(["x", "t", "b", "b64", "data", "columns", "index", "AAEC", "1", "model_input"])
ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
VALUES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12)
FORMS = st.sampled_from(["instances", "inputs", "dataframe_split", "dataframe_records"])
BODIES = (
    VALUES | st.dictionaries(FORMS, VALUES, min_size=1, max_size=2) | st.fixed_dictionaries({"inputs": VALUES, "params": VALUES})
)


def check(protocol: Protocol, request: Request, body: bytes, into: Plan) -> None:
    """Decode, and answer what was decoded with what it said; both may be refused, in the protocol's own form."""
    refused = None
    try:
        answered(protocol, protocol.decode(request, body, into), into)
    except HeadgateError as error:
        refused = error
    if refused is not None:
        assert refused.status < 500 or refused.status == 501, refused
        reply = protocol.encode_error(refused)
        assert reply.status == refused.status
        json.loads(bytes(reply.body))


def answered(protocol: Protocol, infer: InferRequest, into: Plan) -> None:
    """Give back as outputs what came as inputs; what was left out comes back as zeros."""
    outputs = []
    for spec, shape, data in zip(into.inputs, infer.shapes, infer.data, strict=True):
        if shape is None:
            shape = [infer.rows, *spec.tail] if into.batched else spec.tail
            data = bytes(elements(shape) * spec.item_size)
        assert len(data) == elements(shape) * spec.item_size or not spec.item_size
        outputs.append(OutputTensor(spec.name, DTYPES[spec.dtype.name], shape, data))
    reply = protocol.encode(infer, InferResponse("m", "1", outputs, Batch(0.0, infer.rows, 0.0)))
    assert reply.status == 200
    if reply.content_type == b"application/json":
        json.loads(bytes(reply.body))


@given(st.sampled_from(PROTOCOLS), st.sampled_from(PLANS), BODIES)
@example(PROTOCOLS[0], PLANS[2], {"instances": [{"b64": 1}]})
@example(PROTOCOLS[1], PLANS[1], {"dataframe_split": {"columns": [[], {}], "data": [[1, 2]]}})
def test_any_json(protocol: Protocol, into: Plan, body: Any) -> None:
    """JSON of any form."""
    check(protocol, Request({"content-type": "application/json"}), json.dumps(body).encode(), into)


@given(st.sampled_from(PROTOCOLS), st.sampled_from(PLANS), st.binary(max_size=40))
def test_any_bytes(protocol: Protocol, into: Plan, body: bytes) -> None:
    """Bytes that are most likely no JSON."""
    check(protocol, Request({"content-type": "application/json"}), body, into)


@given(
    st.sampled_from(PLANS), st.sampled_from(["", "; header=present", "; header=absent"]), st.text('xtb01,.-"\n\r eN{}', max_size=30)
)
def test_any_csv(into: Plan, said: str, body: str) -> None:
    """CSV, with a header or without; the answer as CSV."""
    check(PROTOCOLS[1], Request({"content-type": f"text/csv{said}", "accept": "text/csv"}), body.encode(), into)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_media(content: str, accept: str) -> None:
    """Any Content-Type and Accept."""
    check(PROTOCOLS[1], Request({"content-type": content, "accept": accept}), b'{"inputs": [[1, 2]]}', PLANS[0])


EVENT_NAMES = st.sampled_from(["specversion", "id", "source", "type", "time", "data", "instances"])


@given(st.dictionaries(EVENT_NAMES, VALUES), st.dictionaries(EVENT_NAMES.map(lambda name: f"ce-{name}"), st.text(max_size=5)))
def test_any_event(body: Any, headers: dict[str, str]) -> None:
    """CloudEvents, whole or in part."""
    for media in ("application/json", "application/cloudevents+json"):
        readable = {name: value for name, value in headers.items() if value.isascii() and value.isprintable()}
        check(PROTOCOLS[0], Request({"content-type": media, **readable}), json.dumps(body).encode(), PLANS[0])


# ---- MessagePack

OCTETS = Request({"content-type": "application/octet-stream"})
KEYS = st.sampled_from(["x", "t", "nd", "type", "kind", "shape", "data", "__dt_datetime_iso__"])
PACKED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | WORDS | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(KEYS.map(str.encode), inner, max_size=5)
        | st.builds(
            lambda dtype, shape, data: {b"nd": True, b"type": dtype, b"kind": b"", b"shape": shape, b"data": data},
            st.sampled_from(["<f4", ">f8", "|b1", "<i8", "|u1", "<f2", "<U2", "|S3", "<c8", "", "f", "<M8[s]"]),
            st.lists(st.integers(-2, 3), max_size=3),
            st.binary(max_size=24),
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(PLANS), PACKED | st.fixed_dictionaries({"x": PACKED, "t": PACKED}))
def test_any_messagepack(into: Plan, value: Any) -> None:
    """MessagePack with arrays, bytes, tags, and what only looks like them."""
    check(PROTOCOLS[3], OCTETS, msgspec.msgpack.encode(value), into)


@given(st.sampled_from(PLANS), st.binary(max_size=40))
def test_any_bytes_for_messagepack(into: Plan, body: bytes) -> None:
    """Bytes that are most likely no MessagePack."""
    check(PROTOCOLS[3], OCTETS, body, into)


def values_in(value: Any) -> int:
    """Return how many values there are in a value, itself and the keys of objects included."""
    if isinstance(value, dict):
        return 1 + sum(1 + values_in(part) for part in value.values())
    return 1 + sum(map(values_in, value)) if isinstance(value, list) else 1


@given(
    PACKED
    | st.lists(
        st.text(min_size=30, max_size=70_000) | st.binary(min_size=200, max_size=70_000) | st.integers(-(2**63), 2**64 - 1),
        max_size=20,
    )
)
def test_values_are_counted_without_being_read(value: Any) -> None:
    """As many as there are, and no further than one above the most that is asked for; in damaged bytes, some number."""
    data = msgspec.msgpack.encode(value)
    count = values_in(value)
    assert count_values(data, 1 << 30) == count
    assert count_values(data, count - 1) == count
    assert count_values(data, 0) == 1
    assert count_values(data[: len(data) // 2], 1 << 30) <= count


@given(PACKED)
def test_values_survive_the_way_through_json(value: Any) -> None:
    """What is unpacked comes back the same from the JSON that a model gets, and from MessagePack."""
    try:
        found = unpack(msgspec.msgpack.encode(value))
    except InvalidRequest:
        return
    text = encode_values(to_document(found))
    assert repr(from_document(json.loads(text))) == repr(found)
    assert repr(unpack(pack(found))) == repr(found)
