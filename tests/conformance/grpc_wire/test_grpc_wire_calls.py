"""What surrounds the messages of a call: paths, content types, deadlines, ids, keys, hosts, cancellation, full queues."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import msgspec
import pytest
from serving import Served, Server, eventually
from wire_calls import INFER, STREAM, Wire, both, gate, held, infer, let_go, message, queued

from headgate.routes import KeyRoute

OK, INVALID, DEADLINE, NOT_FOUND, DENIED, EXHAUSTED, UNIMPLEMENTED, UNAUTHENTICATED = 0, 3, 4, 5, 7, 8, 12, 16


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """A connection, on which the next call must be fine whatever came before."""
    with Wire(server) as connection:
        yield connection
        assert infer(connection).status == OK


def test_a_call_that_is_answered(wire: Wire) -> None:
    """Headers, message and trailers, with nothing beside what the protocol of gRPC names."""
    outcome = infer(wire)
    assert outcome.answer.model_name == "sum"
    request_id = outcome.fields["x-request-id"]
    wanted = {":status": "200", "content-type": "application/grpc", "x-request-id": request_id, "grpc-status": "0"}
    assert dict(outcome.fields) == wanted and outcome.blocks == 2


@pytest.mark.parametrize("length", [1, 126, 127, 128, 200])
def test_ids_of_every_length_come_back(wire: Wire, length: int) -> None:
    """In the headers of an answer, and of an error."""
    request_id = "x" * length
    assert infer(wire, {"x-request-id": request_id}).fields["x-request-id"] == request_id
    assert wire.call(b"", {"x-request-id": request_id}).fields["x-request-id"] == request_id


def test_an_id_that_is_none(wire: Wire) -> None:
    """Too long a one is refused, and the server gives its own."""
    outcome = infer(wire, {"x-request-id": "x" * 201})
    assert outcome.status == INVALID and "x-request-id" in outcome.text and len(outcome.fields["x-request-id"]) == 36


@pytest.mark.parametrize("path", ["/inference.GRPCInferenceService/Nothing", "/no.Service/ModelInfer", "/v2/health/live", "/x"])
def test_methods_that_are_not_there(wire: Wire, path: str) -> None:
    """UNIMPLEMENTED in trailers alone, and at once: the client need not send its message first."""
    stream_id = wire.begin(path)
    outcome = wire.outcome(stream_id)
    assert (outcome.status, outcome.blocks) == (UNIMPLEMENTED, 1) and path in outcome.text


def test_messages_in_json_are_not_taken(wire: Wire) -> None:
    """A codec that is not offered is UNIMPLEMENTED; the plain names are all one."""
    for content_type in ("application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"):
        assert infer(wire, {"content-type": content_type}).status == OK
    outcome = infer(wire, {"content-type": "application/grpc+json"})
    assert outcome.status == UNIMPLEMENTED and "'json'" in outcome.text


@pytest.mark.parametrize("content_type", ["", "application/json", "application/grpc-web", "application/grpcs"])
def test_other_content_types_are_plain_http(wire: Wire, content_type: str) -> None:
    """They are answered as HTTP, with a status above 400 and no word of gRPC."""
    outcome = infer(wire, {"content-type": content_type})
    assert outcome.fields[":status"] == "404" and "grpc-status" not in outcome.fields
    assert outcome.fields["content-type"] == "application/json"


# ---- deadlines


@pytest.mark.parametrize("timeout", ["10S", "1H", "10M", "99999999H", "10000m", "99999999u"])
def test_deadlines_that_are_far(wire: Wire, timeout: str) -> None:
    """Every unit, and the largest number."""
    assert infer(wire, {"grpc-timeout": timeout}).status == OK
    assert wire.call(message(both()), {"grpc-timeout": timeout}, STREAM).status == OK


@pytest.mark.parametrize("timeout", ["1", "S", "-1S", "1.5S", "1s", "1 S", "123456789S", "0x1S", "\xb9S"])
def test_deadlines_that_are_malformed(wire: Wire, timeout: str) -> None:
    """The field is named."""
    outcome = infer(wire, {"grpc-timeout": timeout})
    assert outcome.status == INVALID and "grpc-timeout" in outcome.text


@pytest.mark.parametrize("timeout", ["0n", "1n", "0S", "1u"])
@pytest.mark.parametrize("path", [INFER, STREAM])
def test_p73_what_has_no_time_is_not_run(server: Server, wire: Wire, timeout: str, path: str) -> None:
    """DEADLINE_EXCEEDED, and the model never sees it."""
    value = 600_000 + int(timeout[0]) * 10 + "nSu".index(timeout[1]) + (1000 if path == STREAM else 0)
    outcome = wire.call(message(gate(value, "probe")), {"grpc-timeout": timeout}, path)
    assert outcome.status == DEADLINE
    assert wire.call(message(gate(value + 100, "probe"))).status == OK
    assert value not in server.executed("probe-1")


# ---- cancellation, full queues


def test_p73_what_is_cancelled_is_not_run(server: Server, wire: Wire) -> None:
    """A call that waits leaves the queue at once; the one that runs is run to its end for nobody."""
    first = held(server, wire, -601)
    waiting = wire.begin(INFER)
    wire.send(waiting, message(gate(601)), end=True)
    eventually(lambda: queued(server) == 1, "one waits")
    wire.reset(waiting)
    eventually(lambda: queued(server) == 0, "none waits")
    wire.reset(first)
    let_go(server, -601)
    assert wire.call(message(gate(602))).status == OK
    assert 601 not in server.executed("gate-1")


def test_a_full_queue_says_when_to_come_back(server: Server, wire: Wire) -> None:
    """RESOURCE_EXHAUSTED in trailers alone, with the time after which a retry makes sense; those that wait are answered."""
    first = held(server, wire, -611)
    waiting = [wire.begin(INFER) for _ in range(4)]
    for number, stream_id in enumerate(waiting):
        wire.send(stream_id, message(gate(611 + number)), end=True)
    eventually(lambda: queued(server) == 4, "the queue is full")
    outcome = wire.call(message(gate(620)))
    assert (outcome.status, outcome.blocks) == (EXHAUSTED, 1) and int(outcome.fields["grpc-retry-pushback-ms"]) > 0
    let_go(server, -611)
    assert [wire.outcome(stream_id).status for stream_id in (first, *waiting)] == [OK] * 5


# ---- texts


def test_p70_texts_are_escaped(wire: Wire) -> None:
    """UTF-8, percent-encoded but for printable ASCII; a long one is cut between two letters, and fits a client's room."""
    outcome = wire.call(message(both(model="n\u00e4m%e\n")))
    assert "'n%C3%A4m%25e%0A'" in outcome.text
    outcome = wire.call(message(both(model="\U0001f600" * 2000)))
    assert len(outcome.text) < 4096 and outcome.text.count("%") % 4 == 0


@pytest.mark.parametrize("version", ["1.0.0", "x", "-1", "01", "9", "99999999999999999999"])
def test_p15_versions_that_are_not_there(wire: Wire, version: str) -> None:
    """NOT_FOUND, as over HTTP, whether they are numbers or not: what is no number may be an alias."""
    outcome = wire.call(message(both(model_version=version)))
    assert outcome.status == NOT_FOUND and f"version {version} is not found" in outcome.text


# ---- hosts and keys


def test_foreign_hosts(wire: Wire) -> None:
    """The authority is held to the hosts that are served, as Host is."""
    outcome = wire.call(message(both()), host="evil.example")
    assert outcome.status == DENIED and "evil.example" in outcome.text
    assert wire.call(message(both()), host="localhost:1").status == OK


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two keys, of which one may infer."""
    running = Server(tmp_path_factory.mktemp("guarded"), [Served("sum", "Sum")])
    keys = tuple(
        KeyRoute(id=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=frozenset({scope}))
        for name, scope in (("good", "infer"), ("weak", "feedback"))
    )
    running.apply(msgspec.structs.replace(running.table, keys=keys))
    yield running
    complaints = running.complaints()
    running.stop()
    assert not complaints


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer good"}, OK),
        ({"authorization": "Api-Key good"}, OK),
        ({"x-api-key": "good"}, OK),
        ({}, UNAUTHENTICATED),
        ({"authorization": "Bearer other"}, UNAUTHENTICATED),
        ({"authorization": "Basic good"}, UNAUTHENTICATED),
        ({"x-api-key": ""}, UNAUTHENTICATED),
        ({"x-api-key": "weak"}, DENIED),
    ],
)
def test_keys(guarded: Server, headers: dict[str, str], status: int) -> None:
    """In the metadata, in every form; without a good one even what is sent to nobody is UNAUTHENTICATED."""
    with Wire(guarded) as wire:
        assert infer(wire, headers).status == status
        assert wire.call(message(both()), headers, STREAM).status == status
        assert wire.call(b"", headers, "/no.Such/Method").status == (UNIMPLEMENTED if status == OK else status)


def test_nobody_waits_for_a_refusal(guarded: Server) -> None:
    """A stream without a key is refused before it sends anything."""
    with Wire(guarded) as wire:
        begun = time.monotonic()
        assert wire.outcome(wire.begin(STREAM)).status == UNAUTHENTICATED
        assert time.monotonic() - begun < 20.0, "no limit of time has come to its help"
