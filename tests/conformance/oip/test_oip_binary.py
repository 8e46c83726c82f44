"""Points 48 to 61 of the Open Inference Protocol checklist: the binary tensor data extension and compression."""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from serving import Answer, Server, tensor

BINARY = {"binary_data_output": True}
ROW = np.arange(16, dtype="<f4")


def framed(*items: bytes) -> bytes:
    """Return the binary form of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def both(a: bytes = ROW.tobytes(), b: bytes = ROW.tobytes(), **more: Any) -> tuple[dict[str, Any], bytes]:
    """Return a request to ``sum`` with both inputs in binary form."""
    sizes = {"binary_data_size": len(a)}, {"binary_data_size": len(b)}
    inputs = [tensor("a", "FP32", [1, 16], **sizes[0]), tensor("b", "FP32", [1, 16], **sizes[1])]
    return {"inputs": inputs, **more}, a + b


def refused(answer: Answer, *texts: str) -> None:
    """Assert that an answer is a 400 with all of ``texts``."""
    assert answer.status == 400, answer.body[:300]
    for text in texts:
        assert text in answer.error, answer.error


def test_p48_blobs_follow_in_the_order_of_the_inputs(server: Server) -> None:
    """The first blob is the first input's, whatever the model's own order."""
    body = {
        "inputs": [tensor("b", "FP32", [1, 16], binary_data_size=64), tensor("a", "FP32", [1, 16], binary_data_size=64)],
        "parameters": BINARY,
    }
    answer = server.infer("sum", body, blobs=ROW.tobytes() + (3 * ROW).tobytes())
    assert np.frombuffer(answer.blobs, "<f4").tolist() == [*(4 * ROW), *(2 * ROW)]


def test_p49_the_default_call_of_the_common_client(server: Server) -> None:
    """Binary in, ``binary_data_output`` and nothing else."""
    body = {
        "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}],
        "parameters": BINARY,
    }
    answer = server.infer("two", body, blobs=struct.pack("<f", 1.0))
    assert answer.status == 200
    assert answer.blobs == struct.pack("<q", 2)


BLOBS = {
    "BOOL": b"\x01\x00", "UINT8": b"\x00\xff", "UINT16": b"\x01\x00\xff\xff", "UINT32": b"\x01\x02\x03\x04\xff\xff\xff\xff",
    "UINT64": bytes(range(8)) + b"\xff" * 8, "INT8": b"\x80\x7f", "INT16": b"\x00\x80\xff\x7f",
    "INT32": b"\x00\x00\x00\x80\x01\x00\x00\x00",
    "INT64": b"\x00" * 7 + b"\x80" + b"\x01" + b"\x00" * 7, "FP16": b"\x00\x3c\x00\x7c", "FP32": struct.pack("<2f", 1.5, float("inf")),
    "FP64": struct.pack("<2d", 0.1, float("-inf")), "BYTES": framed(b"", b"\xff\x00\xfe"), "BF16": b"\x80\x3f\x80\xff",
}  # fmt: skip


@pytest.mark.parametrize("datatype", BLOBS)
def test_p50_every_datatype_comes_back_bit_by_bit(server: Server, datatype: str) -> None:
    """Little-endian, without padding, with extremes and infinities."""
    name, blob = datatype.lower(), BLOBS[datatype]
    body = {
        "inputs": [tensor(name, datatype, [1, 2], binary_data_size=len(blob))],
        "outputs": [{"name": f"same_{name}", "parameters": {"binary_data": True}}],
    }
    answer = server.infer("types", body, blobs=blob)
    assert answer.status == 200, answer.body
    assert answer.json["outputs"] == [
        {"name": f"same_{name}", "datatype": datatype, "shape": [1, 2], "parameters": {"binary_data_size": len(blob)}}
    ]
    assert answer.blobs == blob


def test_p51_json_and_binary_inputs_in_one_request(server: Server) -> None:
    """Only what has a size has a blob."""
    body = {"inputs": [tensor("a", "FP32", [1, 16], ROW.tolist()), tensor("b", "FP32", [1, 16], binary_data_size=64)]}
    assert server.infer("sum", body, blobs=ROW.tobytes()).data("sum") == (2 * ROW).tolist()


def test_p52_sizes_that_do_not_fit(server: Server) -> None:
    """A size unlike the shape's, a body too short, bytes left over: three texts, each with the numbers."""
    body, blobs = both(ROW.tobytes()[:-4])
    refused(server.infer("sum", body, blobs=blobs), "input byte size mismatch for input 'a' for model 'sum'. Expected 64, got 60")
    body, blobs = both()
    refused(
        server.infer("sum", body, blobs=blobs[:-1]), "unexpected size for input 'b', expecting 1 additional bytes for model 'sum'"
    )
    refused(server.infer("sum", body, blobs=blobs + b"?"), "unexpected additional input data for model 'sum'")


@pytest.mark.parametrize("size", [-1, 64.0, "64", True, 10**30])
def test_p52_sizes_that_are_none(server: Server, size: Any) -> None:
    """A size is an integer of 0 or more, and no larger than what there is."""
    body, blobs = both()
    body["inputs"][0]["parameters"]["binary_data_size"] = size
    refused(server.infer("sum", body, blobs=blobs), "'a'")


def test_p53_binary_input_without_the_header(server: Server) -> None:
    """Refused in the words of the reference, which misnames the header, and with its right name."""
    body, _ = both()
    refused(
        server.infer("sum", body),
        "must specify valid 'Infer-Header-Content-Length' in request header",
        "Inference-Header-Content-Length",
    )


@pytest.mark.parametrize("length", ["1000000", "-1", "x", "1.5", "", "0x10", "1e2", "+5", "99999999999999999999", "5, 5", "\u0665"])
def test_p54_header_that_is_no_length(server: Server, length: str) -> None:
    """A length beyond the body, or none at all, is refused and quoted."""
    body, blobs = both()
    answer = server.infer("sum", body, {"Inference-Header-Content-Length": length.encode().decode("latin-1")}, blobs=blobs)
    refused(answer, "Unable to parse Inference-Header-Content-Length")


def test_p54_header_that_cuts_the_json(server: Server) -> None:
    """One byte less or more is a parse error, not somebody else's tensor."""
    body, blobs = both()
    length = len(json.dumps(body))
    for wrong in (length - 1, length + 1):
        refused(server.infer("sum", body, {"Inference-Header-Content-Length": str(wrong)}, blobs=blobs), "failed to parse")


@pytest.mark.parametrize(
    "blob",
    [
        b"\x01\x00\x00",
        framed(b"abc")[:-1],
        framed(b"a", b"b", b"c"),
        framed(b"a"),
        b"\xff\xff\xff\xffab",
        framed(b"a", b"b") + b"\x00",
    ],
    ids=["half-length", "cut", "three", "one", "huge", "left-over"],
)
def test_p55_framing_of_byte_strings(server: Server, blob: bytes) -> None:
    """Lengths that run past the end, too many or too few elements: the input and the number expected are said."""
    body = {"inputs": [tensor("bytes", "BYTES", [1, 2], binary_data_size=len(blob))]}
    refused(server.infer("types", body, blobs=blob), "inference input 'bytes'", "expecting 2")


def test_p55_bool_bytes(server: Server) -> None:
    """A BOOL byte is 0 or 1."""
    body = {"inputs": [tensor("bool", "BOOL", [1, 2], binary_data_size=2)]}
    refused(server.infer("types", body, blobs=b"\x01\x02"), "input 'bool'", "0 or 1")


def outputs(server: Server, **more: Any) -> dict[str, bool]:
    """Return which outputs of ``sum`` came in binary form, in order."""
    body, blobs = both(**more)
    answer = server.infer("sum", body, blobs=blobs)
    assert answer.status == 200, answer.body
    return {output["name"]: "data" not in output for output in answer.json["outputs"]}


def test_p56_an_output_overrides_the_request(server: Server) -> None:
    """``binary_data`` of the output counts before ``binary_data_output`` of the request."""
    wanted = [{"name": "sum", "parameters": {"binary_data": True}}, {"name": "difference"}]
    assert outputs(server, outputs=wanted) == {"sum": True, "difference": False}
    assert outputs(server, outputs=wanted, parameters=BINARY) == {"sum": True, "difference": True}
    wanted[0]["parameters"] = {"binary_data": False}
    assert outputs(server, outputs=wanted, parameters=BINARY) == {"sum": False, "difference": True}
    assert outputs(server, parameters={"binary_data_output": False}) == {"sum": False, "difference": False}


@pytest.mark.parametrize("value", [1, 0, "true", 1.0])
def test_p56_flags_are_true_or_false(server: Server, value: Any) -> None:
    """Anything else is refused by name."""
    body, blobs = both(parameters={"binary_data_output": value})
    refused(server.infer("sum", body, blobs=blobs), "binary_data_output", "true or false")
    body, blobs = both(outputs=[{"name": "sum", "parameters": {"binary_data": value}}])
    refused(server.infer("sum", body, blobs=blobs), "binary_data", "true or false")


def test_p57_the_form_of_a_binary_answer(server: Server) -> None:
    """Octets, the header, sizes and no data; JSON and binary mixed; blobs in the order of ``outputs``."""
    body, blobs = both((2 * ROW).tobytes(), outputs=[{"name": "difference", "parameters": {"binary_data": True}}, {"name": "sum"}])
    answer = server.infer("sum", body, blobs=blobs)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.json["outputs"] == [
        {"name": "difference", "datatype": "FP32", "shape": [1, 16], "parameters": {"binary_data_size": 64}},
        {"name": "sum", "datatype": "FP32", "shape": [1, 16], "data": (3 * ROW).tolist()},
    ]
    assert answer.blobs == ROW.tobytes()
    body, blobs = both(outputs=[{"name": "difference"}, {"name": "sum"}], parameters=BINARY)
    assert server.infer("sum", body, blobs=blobs).blobs == bytes(64) + (2 * ROW).tobytes()


def test_p58_no_binary_output_no_header(server: Server) -> None:
    """The client switches on the header's presence."""
    body, blobs = both()
    answer = server.infer("sum", body, blobs=blobs)
    assert "inference-header-content-length" not in answer.headers
    assert answer.headers["content-type"] == "application/json"


def raw(server: Server, model: str, body: bytes) -> Answer:
    """Send a raw request: the whole body is the one input."""
    return server.infer(model, body, {"Inference-Header-Content-Length": "0"})


def test_p59_raw_requests(server: Server) -> None:
    """One row of the one input; the side that varies is worked out; all outputs come in binary form."""
    answer = raw(server, "ragged", b"\x01\x02\x03")
    assert answer.json["outputs"][0]["shape"] == [1, 3]
    assert answer.blobs == b"\x03\x02\x01"
    assert raw(server, "text", b"ab\xff").blobs == framed(b"\xffba")
    assert raw(server, "two", struct.pack("<f", 0)).blobs == struct.pack("<q", 2)


def test_p59_raw_requests_that_cannot_be_understood(server: Server) -> None:
    """Several inputs, two sides that vary, or bytes that make no element."""
    refused(raw(server, "sum", b"ab"), "Raw request must only have 1 input", "but got 2 inputs in 'sum'")
    refused(
        raw(server, "plane", bytes(16)),
        "The shape of the raw input 'x' can not be deduced",
        "more than one variable-sized dimension",
    )
    refused(raw(server, "two", b"abc"), "input byte size mismatch for input 'x'", "Expected 4, got 3")


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "GZIP": gzip.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
def test_p60_compressed_requests(server: Server, coding: str) -> None:
    """The JSON's length counts uncompressed bytes, and may exceed the Content-Length."""
    body, blobs = both(bytes(64), parameters=BINARY)
    text = json.dumps(body).encode().ljust(5000)
    packed = CODINGS[coding](text + blobs)
    answer = server.infer("sum", packed, {"Content-Encoding": coding, "Inference-Header-Content-Length": str(len(text))})
    assert answer.status == 200, answer.body
    assert answer.blobs[:64] == ROW.tobytes()
    plain = {"inputs": [tensor("x", "FP32", [1, 1], [0])]}
    answer = server.infer("two", CODINGS[coding](json.dumps(plain).encode()), {"Content-Encoding": coding})
    assert answer.data("output") == [2]


def test_p60_a_large_compressed_request(server: Server) -> None:
    """What inflates to more than fits on the event loop takes the way through a thread, and gives the same."""
    rows = np.arange(16 * 20_000, dtype="<f4").reshape(-1, 16)
    body = {"inputs": [tensor(name, "FP32", rows.shape, binary_data_size=rows.nbytes) for name in "ab"], "parameters": BINARY}
    text = json.dumps(body).encode()
    packed = gzip.compress(text + rows.tobytes() * 2, 1)
    answer = server.infer("sum", packed, {"Content-Encoding": "gzip", "Inference-Header-Content-Length": str(len(text))})
    assert answer.status == 200, answer.body[:300]
    assert answer.blobs[: rows.nbytes] == (2 * rows).tobytes()


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "x" * 300])
def test_p60_unknown_codings(server: Server, coding: str) -> None:
    """501, with what is understood in a header."""
    answer = server.infer("sum", both()[0], {"Content-Encoding": coding})
    assert answer.status == 501
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert coding[:20] in answer.error


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("how", ["not", "cut", "more", "flipped", "empty"])
def test_p60_broken_compression(server: Server, coding: str, how: str) -> None:
    """Bytes that are not what they claim, cut short, or go on: 400, and the coding is named."""
    good = CODINGS[coding](json.dumps(both()[0]).encode())
    at = len(good) // 2
    bad = {
        "not": b"hello",
        "cut": good[:-3],
        "more": good + b"?",
        "flipped": good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :],
        "empty": b"\x00",
    }
    refused(server.infer("sum", bad[how], {"Content-Encoding": coding}), coding)


def test_p60_zip_bombs(narrow: Server) -> None:
    """Inflation stops at the limit, for JSON and for binary bodies, small on the wire or not."""
    for size, headers in ((65_537, {}), (50_000_000, {}), (262_145, {"Inference-Header-Content-Length": "2"})):
        bomb = gzip.compress(b"{}".ljust(size))
        answer = narrow.infer("sum", bomb, {"Content-Encoding": "gzip", **headers})
        assert answer.status == 413, size
        assert "inflates to more than the maximum allowed" in answer.error


WISHES = [
    ("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate", "gzip"), ("gzip;q=0.1, deflate;q=0.9", "deflate"),
    ("br, gzip;q=0.5", "gzip"),
    ("identity", None), ("gzip;q=0", None), ("br", None), ("", None), ("identity;q=1, gzip;q=0.5", None), ("gzip;Q=0.5", "gzip"),
    ("gzip;q=x", None), ("DEFLATE", "deflate"),
]  # fmt: skip


@pytest.mark.parametrize(("wish", "expected"), WISHES)
def test_p61_compressed_answers(server: Server, wish: str, expected: str | None) -> None:
    """By the client's preference; the JSON's length counts uncompressed bytes; identity is always there."""
    rows = np.zeros((8, 16), dtype="<f4")
    inputs = [tensor(name, "FP32", [8, 16], rows.ravel().tolist()) for name in "ab"]
    answer = server.infer("sum", {"inputs": inputs, "parameters": BINARY}, {"Accept-Encoding": wish})
    assert answer.status == 200
    assert answer.headers.get("content-encoding") == expected
    body = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[expected](answer.body)
    length = int(answer.headers["inference-header-content-length"])
    assert body[length:] == bytes(2 * rows.nbytes)
    assert json.loads(body[:length])["model_name"] == "sum"
    if expected:
        assert answer.headers["vary"] == "accept-encoding"


def test_p61_a_large_compressed_answer(server: Server) -> None:
    """What is compressed in a thread arrives whole, and the connection goes on after it."""
    numbers = random.Random(7).randbytes(600_000)
    body = json.dumps(
        {"inputs": [tensor("x", "UINT8", [1, len(numbers)], binary_data_size=len(numbers))], "parameters": BINARY}
    ).encode()
    client = server.client()
    for _ in range(2):
        headers = {"Accept-Encoding": "gzip", "Inference-Header-Content-Length": str(len(body))}
        client.request("POST", "/v2/models/ragged/infer", body + numbers, headers)
        answer = client.getresponse()
        whole = gzip.decompress(answer.read())
        assert whole[int(answer.getheader("inference-header-content-length", "0")) :] == numbers[::-1]
    client.close()
