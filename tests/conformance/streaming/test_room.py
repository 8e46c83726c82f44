"""Clients that take their time: a model goes no further than its client has room, whatever carries the answer."""

from __future__ import annotations

import json
import time

import pytest
from http2_caller import GRPC, SERVICE, Caller, Stream, framed, request, text
from serving import Server, eventually

from headgate.serving.wire.http2.flow import DEFAULT_WINDOW

PARTS = 3000
"""Of a thousand bytes each."""


def standstill(server: Server) -> int:
    """Return how many parts the model has given, once it gives no more."""
    path = server.package_file("words-1", "given")
    seen = [-2, -1]

    def stands() -> bool:
        time.sleep(0.2)
        seen.append(len(path.read_text().splitlines()) if path.exists() else -len(seen))
        return seen[-1] == seen[-2]

    eventually(stands, "the model waits")
    return seen[-1]


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_no_further_than_the_window_of_the_stream(streaming: Server, transport: str) -> None:
    """While the client grants nothing, the model stands a little behind the window; other streams of the connection are answered; with
    room again, all of it comes. An answer that takes longer than its client likes is nobody's fault: no part is lost."""
    streaming.package_file("words-1", "given").unlink(missing_ok=True)
    with Caller(streaming) as caller:
        caller.grant(0, 1 << 24)
        if transport == "http":
            body = json.dumps({"text": f"!many{PARTS}"}).encode()
            slow = caller.ask("/v2/models/words/generate_stream", body, {"content-type": "application/json"})
        else:
            slow = Stream(caller, request("words", text(f"!many{PARTS}")), end=True).id
        while len(caller.bodies[slow]) < DEFAULT_WINDOW:
            caller.step(grant=False)
        given = standstill(streaming)
        assert DEFAULT_WINDOW // 1200 < given < PARTS // 2
        other = caller.ask("/v2/models/async/generate_stream", b'{"text_input":"a"}', {"content-type": "application/json"})
        caller.until_end(other)
        assert caller.bodies[other].count(b"data: ") == 1
        assert standstill(streaming) == given
        caller.grant(slow, 1 << 24)
        caller.until_end(slow)
        whole = caller.bodies[slow]
    if transport == "http":
        parts = [json.loads(line[6:])["output"] for line in whole.splitlines() if line]
        assert [int(part) for part in parts] == list(range(PARTS))
    else:
        assert whole.count(b"triton_final_response") == PARTS


def test_two_slow_streams_share_no_room(streaming: Server) -> None:
    """Two answers on one gRPC call wait for the same client; each of their replicas is let go by a cancel."""
    with Caller(streaming) as caller:
        both = framed(*[request("patient", text("!many100000"), id=str(at)) for at in range(2)])
        call = caller.ask(f"{SERVICE}/ModelStreamInfer", both, GRPC, end=False)
        while len(caller.bodies[call]) < DEFAULT_WINDOW:
            caller.step(grant=False)
        caller.reset(call)
        path = streaming.package_file("patient-1", "ended")
        eventually(lambda: path.exists() and path.read_text().splitlines().count("!many100000") == 2, "both are closed")


def test_the_window_on_the_link_is_not_the_clients(streaming: Server) -> None:
    """Parts beyond the room of a link pass through it one at a time, unharmed."""
    answer = streaming.request("POST", "/v2/models/pieces/generate_stream", json.dumps({"count": 4, "size": 200_000}).encode())
    parts = [json.loads(line[6:]) for line in answer.body.splitlines() if line]
    assert [(part["at"], part["values"] == [float(at + index) for index in range(200_000)]) for at, part in enumerate(parts)] == [
        (at, True) for at in range(4)
    ]


def test_grants_are_for_streams(streaming: Server) -> None:
    """A client may grant its room in any pieces."""
    with Caller(streaming) as caller:
        caller.grant(0, 1 << 24)
        slow = caller.ask("/v2/models/words/generate_stream", json.dumps({"text": "!many200"}).encode())
        while slow not in caller.ended:
            caller.step(grant=False)
            if len(caller.bodies[slow]) >= DEFAULT_WINDOW:
                caller.grant(slow, 777)
        assert caller.bodies[slow].count(b"data: ") == 200
