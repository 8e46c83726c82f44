"""Checklist X16 and X17: models that answer in parts, over gRPC's ModelStreamInfer, and refused where there is room for one answer."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from http2_caller import GRPC, SERVICE, Caller, Stream, framed, request, text, words_of
from serving import Server, eventually, tensor

FINAL = "triton_final_response"


def finals(found: list[object]) -> list[bool | None]:
    """Return of each answer what it says of being the last one; None: nothing."""
    return [
        item.infer_response.parameters[FINAL].bool_param if FINAL in item.infer_response.parameters else None  # type: ignore[attr-defined]
        for item in found
    ]


def release(server: Server, revision: str, number: int) -> None:
    """Let the model ``Words`` go on."""
    server.package_file(revision, f"release{number}").touch()


def ended(path: Path) -> list[str]:
    """Return the texts whose generators have ended."""
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("words", [[], ["one"], ["one", "two", "three"]])
def test_x17_every_part_is_an_answer(streaming: Server, words: list[str]) -> None:
    """0, 1 or more responses, in order, each with the id of the request and marked as not the final one; then the stream may end."""
    with Caller(streaming) as caller:
        stream = Stream(caller, request("words", text(" ".join(words)), id="7"), end=True)
        found = stream.finish()
        assert words_of(found) == words
        assert [(item.infer_response.id, item.infer_response.model_name) for item in found] == [("7", "words")] * len(words)
        assert finals(found) == [False] * len(words)
        assert stream.status == ("0", "")


@pytest.mark.parametrize("words", [[], ["one"], ["one", "two"]])
def test_x17_an_empty_final_response_where_it_is_asked_for(streaming: Server, words: list[str]) -> None:
    """With triton_enable_empty_final_response the last response is empty, and says that it is the final one; every time it is asked."""
    with Caller(streaming) as caller:
        asked = request("words", text(" ".join(words)), id="7", triton_enable_empty_final_response=True)
        stream = Stream(caller, asked)
        stream.take(len(words) + 1)
        stream.send(asked, end=True)
        found = stream.finish()
        assert len(found) == 2 * (len(words) + 1)
        for half in (found[: len(words) + 1], found[len(words) + 1 :]):
            *parts, last = half
            assert words_of(parts) == words
            assert finals(half) == [False] * len(words) + [True]
            assert (last.infer_response.model_name, last.infer_response.model_version, last.infer_response.id) == (
                "words",
                "1",
                "7",
            )
            assert not last.infer_response.outputs
            assert not last.infer_response.raw_output_contents


def test_x17_without_an_id_and_with_outputs_asked_for(streaming: Server) -> None:
    """Requests of fixed size, which the server knows again by their bytes, get the final response only where they ask for it."""
    count = {"count": ("INT64", (2).to_bytes(8, "little")), "size": ("INT64", (1).to_bytes(8, "little"))}
    for empty in (True, False, True):
        asked = request("pieces", count, **({"triton_enable_empty_final_response": True} if empty else {}))
        asked.outputs.add(name="at")
        with Caller(streaming) as caller:
            found = Stream(caller, asked, end=True).finish()
        assert finals(found) == [False, False, True][: 2 + empty]
        assert [[output.name for output in item.infer_response.outputs] for item in found[:2]] == [["at"], ["at"]]


def test_x17_a_false_wish_for_a_final_response_is_none(streaming: Server) -> None:
    """The flag may be false; anything but a truth value is refused."""
    with Caller(streaming) as caller:
        stream = Stream(caller, request("words", text("a"), triton_enable_empty_final_response=False))
        stream.take(1)
        stream.send(request("words", text("a"), triton_enable_empty_final_response=1), end=True)
        assert words_of(stream.finish()) == [
            "a", "parameter 'triton_enable_empty_final_response': expected true or false, got '1'",
        ]  # fmt: skip


def test_x17_parts_come_as_they_are_made(streaming: Server) -> None:
    """A part is there while the model is still at the next one."""
    number = random.randrange(1 << 40)
    with Caller(streaming) as caller:
        stream = Stream(caller, request("words", text(f"first !wait{number} second")), end=True)
        assert words_of(stream.take(1)) == ["first"]
        assert stream.id not in caller.ended
        release(streaming, "words-1", number)
        assert words_of(stream.finish()) == ["first", "second"]


def test_x17_the_unary_call_is_unimplemented(streaming: Server) -> None:
    """ModelInfer has room for one answer; nothing is computed."""
    before = ended(streaming.package_file("words-1", "ended"))
    with Caller(streaming) as caller:
        call = caller.ask(f"{SERVICE}/ModelInfer", framed(request("words", text("unary"))), GRPC)
        caller.until_end(call)
        assert caller.field(call, "grpc-status") == "12"
        assert caller.field(call, "grpc-message").startswith(
            "ModelInfer RPC doesn't support models with decoupled transaction policy"
        )
    assert ended(streaming.package_file("words-1", "ended")) == before


def test_x17_infer_over_http_is_not_implemented(streaming: Server) -> None:
    """501 with Triton's words, and where to ask instead."""
    answer = streaming.infer("words", {"inputs": [tensor("text", "BYTES", [1], ["a"])]})
    assert answer.status == 501
    assert answer.error.startswith("HTTP end point doesn't support models with decoupled transaction policy")
    assert "generate_stream" in answer.error


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/words:predict", {"inputs": {"text": ["a"]}}),
        ("/invocations", {"inputs": {"text": ["a"]}}),
    ],
)
def test_x17_other_protocols_refuse_too(streaming: Server, path: str, body: object) -> None:
    """A protocol without a form for answers in parts says so, and who has one; it gives no half of an answer."""
    streaming.make_default("words")
    try:
        answer = streaming.request("POST", path, json.dumps(body).encode())
    finally:
        streaming.make_default(None)
    assert answer.status == 501
    assert b"generate_stream" in answer.body


def test_x16_errors_are_in_band_and_the_stream_lives_on(streaming: Server) -> None:
    """An error after some parts is a message with the id of its request, and the next request on the stream is answered."""
    with Caller(streaming) as caller:
        stream = Stream(caller, request("words", text("a !raise"), id="1"))
        found = stream.take(2)
        assert words_of(found) == ["a", "the model raised ValueError: told to"]
        assert found[1].infer_response.id == "1"
        stream.send(request("words", text("!blame"), id="2"))
        stream.take(3)
        stream.send(request("words", text("b"), id="3"), end=True)
        found = stream.finish()
        assert words_of(found[2:]) == ["input 'text': told to", "b"]
        assert stream.status == ("0", "")


def test_x16_errors_end_the_stream_where_the_client_wants_that(streaming: Server) -> None:
    """With the header triton_grpc_error an error in the middle is the status of the call."""
    with Caller(streaming) as caller:
        stream = Stream(caller, request("words", text("a !raise")), {"triton_grpc_error": "true"})
        assert words_of(stream.finish()) == ["a"]
        assert stream.status == ("13", "the model raised ValueError: told to")


def test_x16_whole_answers_keep_their_order_and_parts_wait_for_nobody(streaming: Server) -> None:
    """Behind an answer in parts that waits, another one's parts and its error get through at once; a whole answer keeps its turn."""
    number = random.randrange(1 << 40)
    with Caller(streaming) as caller:
        stream = Stream(caller, request("patient", text(f"slow !wait{number} end"), id="slow"))
        stream.take(1)
        row = bytes(64)
        whole = request("sum", {})
        for name in ("a", "b"):
            whole.inputs.add(name=name, datatype="FP32", shape=[1, 16])
            whole.raw_input_contents.append(row)
        whole.id = "whole"
        stream.send(whole, request("patient", text("quick !raise"), id="quick"))
        found = stream.take(3)
        assert [item.infer_response.id for item in found] == ["slow", "quick", "quick"]
        assert found[2].error_message
        release(streaming, "patient-1", number)
        stream.close()
        assert [item.infer_response.id for item in stream.finish()[3:]] == ["slow", "whole"]


def test_x17_compressed_messages(streaming: Server) -> None:
    """A compressed request gets its id, its error and its final response as any other; answers to it may be compressed."""

    def squeezed(message: object) -> bytes:
        data = gzip.compress(message.SerializeToString())  # type: ignore[attr-defined]
        return b"\1" + len(data).to_bytes(4, "big") + data

    first = request("words", text("a !raise"), id="1")
    second = request("words", text("b"), id="2", triton_enable_empty_final_response=True)
    with Caller(streaming) as caller:
        call = caller.ask(f"{SERVICE}/ModelStreamInfer", squeezed(first), {**GRPC, "grpc-encoding": "gzip"}, end=False)
        stream = Stream.__new__(Stream)
        stream.caller, stream.id = caller, call
        stream.take(2)
        caller.more(call, squeezed(second), end=True)
        found = stream.finish()
    assert [item.infer_response.id for item in found] == ["1", "1", "2", "2"]
    assert finals(found) == [False, None, False, True]


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_cancelled_call_stops_the_model(streaming: Server, how: str) -> None:
    """A client that resets the stream or goes away is noticed: the generator is closed at its next part, and others are served."""
    given = streaming.package_file("words-1", "given")
    given.unlink(missing_ok=True)
    caller = Caller(streaming)
    stream = Stream(caller, request("words", text("!many1000000")))
    stream.take(3)
    if how == "reset":
        caller.reset(stream.id)
    else:
        caller.close()
    eventually(lambda: ended(streaming.package_file("words-1", "ended"))[-1:] == ["!many1000000"], "the generator is closed")
    assert len(given.read_text().splitlines()) < 100_000
    with Caller(streaming) as other:
        assert words_of(Stream(other, request("words", text("next")), end=True).finish()) == ["next"]
    caller.close()


def test_the_deadline_of_the_call_ends_it(streaming: Server) -> None:
    """grpc-timeout counts to the last part; the model is stopped."""
    number = random.randrange(1 << 40)
    with Caller(streaming) as caller:
        stream = Stream(caller, request("patient", text(f"a !wait{number} b")), {"grpc-timeout": "300m"})
        stream.finish()
        assert words_of(stream.got)[0] == "a"
        assert stream.status[0] == "4"
    release(streaming, "patient-1", number)
    path = streaming.package_file("patient-1", "ended")
    eventually(lambda: f"a !wait{number} b" in ended(path), "the generator is closed")
