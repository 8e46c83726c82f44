"""Sequences (X14), over HTTP and over gRPC: bound to one replica from START to END, wherever the traffic goes meanwhile."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving import Served, Server, eventually
from triton_wire import GrpcWire, HttpWire, Refused, Tensor, Wire, all_linked

from headgate.routes import Weight

IDS = itertools.count(1000)


class Talk:
    """One sequence of one client."""

    def __init__(self, wire: Wire, model: str = "running", key: Any = None, version: str = "") -> None:
        self.wire = wire
        self.model = model
        self.key = next(IDS) if key is None else key
        self.version = version

    def say(self, value: int, *, start: bool = False, end: bool = False, **more: Any) -> tuple[int, int]:
        """Send one number; return the total, and the process that keeps it."""
        parameters = {
            "sequence_id": self.key,
            **({"sequence_start": True} if start else {}),
            **({"sequence_end": True} if end else {}),
        }
        found = self.wire.infer(
            self.model, {"x": Tensor("INT64", [1, 1], [value])}, parameters=parameters | more, version=self.version
        )
        return found["total"].data[0], found["replica"].data[0]

    def refused(self, value: int = 1, *, status: int = 400, **options: Any) -> str:
        """Return the text of the refusal that a request must end in."""
        with pytest.raises(Refused) as raised:
            self.say(value, **options)
        assert raised.value.status == status, raised.value
        return str(raised.value)

    def missing(self) -> str:
        """What Triton says of a START that is missing."""
        return (
            f"inference request for sequence {self.key} to model '{self.model}' must specify the START flag on the first request of the "
            "sequence"
        )


@pytest.mark.parametrize("key", [7, (1 << 63) - 1, "a sequence", "\u00e4" * 128])
def test_x14_a_sequence_keeps_its_state(wire: Wire, key: Any) -> None:
    """From START to END every request reaches the process that has its state, under an id that is a number or a text."""
    talk = Talk(wire, key=key)
    first = talk.say(1, start=True)
    rest = [talk.say(2), talk.say(3), talk.say(4, end=True)]
    assert [total for total, _ in (first, *rest)] == [1, 3, 6, 10]
    assert len({process for _, process in (first, *rest)}) == 1


def test_x14_an_id_above_63_bits_over_http(triton: Server) -> None:
    """JSON has room for all of UINT64."""
    talk = Talk(HttpWire(triton), key=(1 << 64) - 1)
    assert talk.say(5, start=True, end=True)[0] == 5


def test_x14_sequences_share_the_replicas(wire: Wire) -> None:
    """Open ones are spread evenly, keep apart, and may be mixed in any order."""
    talks = [Talk(wire) for _ in range(4)]
    processes = [talk.say(number, start=True)[1] for number, talk in enumerate(talks)]
    assert sorted(processes.count(process) for process in set(processes)) == [2, 2]
    for number, talk in reversed(list(enumerate(talks))):
        assert talk.say(10) == (number + 10, processes[number])
    for number, talk in enumerate(talks):
        assert talk.say(0, end=True) == (number + 10, processes[number])


def test_x14_the_first_request_must_say_start(wire: Wire) -> None:
    """Refused in Triton's words, again after the END, and for an id of the other kind."""
    talk = Talk(wire)
    assert talk.missing() in talk.refused()
    assert talk.missing() in talk.refused(end=True)
    talk.say(1, start=True)
    assert Talk(wire, key=str(talk.key)).missing() in Talk(wire, key=str(talk.key)).refused()
    talk.say(1, end=True)
    assert talk.missing() in talk.refused()


def test_x14_one_request_may_be_a_sequence(wire: Wire) -> None:
    """START and END at once leaves nothing open."""
    talk = Talk(wire)
    assert talk.say(4, start=True, end=True)[0] == 4
    assert talk.missing() in talk.refused()


def test_x14_a_start_begins_anew_where_the_old_one_was(wire: Wire) -> None:
    """A client that lost count starts again under its old id, on the replica that can forget the old state."""
    talk = Talk(wire)
    _, process = talk.say(5, start=True)
    others = [Talk(wire) for _ in range(2)]
    for other in others:
        other.say(1, start=True)
    assert talk.say(7, start=True) == (7, process)
    assert talk.say(1, end=True) == (8, process)
    for other in others:
        other.say(1, end=True)


def test_x14_every_request_needs_an_id(wire: Wire) -> None:
    """Without one, or with 0 or an empty text, in Triton's words; what is neither number nor text is refused by name."""
    words = "inference request to model 'running' must specify a non-zero or non-empty correlation ID"
    for key in (0, ""):
        assert words in Talk(wire, key=key).refused(start=True)
    with pytest.raises(Refused, match="must specify a non-zero or non-empty correlation ID"):
        wire.infer("running", {"x": Tensor("INT64", [1, 1], [1])})
    for key in (-1, True, False, 1.5, "x" * 129):
        assert "parameter 'sequence_id'" in Talk(wire, key=key).refused(start=True)
    for name in ("sequence_start", "sequence_end"):
        assert f"parameter '{name}'" in Talk(wire).refused(**{name: 1})


def test_x14_one_row_a_request(wire: Wire) -> None:
    """Triton's sequence batcher takes batch size 1, and so does this."""
    parameters = {"sequence_id": next(IDS), "sequence_start": True}
    with pytest.raises(Refused, match="must specify batch-size 1 due to requirements of sequence batcher"):
        wire.infer("running", {"x": Tensor("INT64", [2, 1], [1, 2])}, parameters=parameters)


def test_x14_priorities_mean_nothing_within_an_order(wire: Wire) -> None:
    """Refused by name, not ignored; a timeout is taken."""
    talk = Talk(wire)
    assert "parameter 'priority'" in talk.refused(start=True, priority=1)
    assert talk.say(1, start=True, end=True, timeout=20_000_000)[0] == 1


def test_x14_models_without_state_have_no_sequences(wire: Wire) -> None:
    """Said by the name of the parameter: a client that counts on state must know that there is none."""
    for name, value in (("sequence_id", 5), ("sequence_id", "a"), ("sequence_start", True), ("sequence_end", True)):
        with pytest.raises(Refused, match=f"parameter '{name}'") as raised:
            wire.infer("gate", {"x": Tensor("INT64", [1, 1], [1])}, parameters={name: value})
        assert raised.value.status == 501


def test_x14_other_protocols_cannot_reach_a_stateful_model(triton: Server) -> None:
    """Plain rows have no place for an id, and say what is missing."""
    answer = triton.request("POST", "/predict/running", b'{"x": [1]}')
    assert answer.status == 400 and "'sequence_id'" in answer.error


def test_x14_generate_has_a_place_for_a_sequence(triton: Server) -> None:
    """Its members that are no inputs are parameters, those of a sequence among them."""

    def say(value: int, **parameters: Any) -> Any:
        body = json.dumps({"x": value, "sequence_id": "said", **parameters}).encode()
        return triton.request("POST", "/v2/models/running/generate", body)

    assert say(1).status == 400
    assert say(1, sequence_start=True).json["total"] == 1
    assert say(2, parameters={"sequence_end": True}).json["total"] == 3
    stateless = triton.request("POST", "/v2/models/gate/generate", b'{"x": 1, "sequence_id": 7}')
    assert stateless.status == 501


def test_x14_openapi_says_what_a_stateful_model_takes(triton: Server) -> None:
    """The path that has a place for a sequence, with parameters that are required, and none that would refuse."""
    paths = triton.get("/openapi.json").json["paths"]
    assert "/predict/running" not in paths and "/v1/models/running:predict" not in paths
    assert "get" in paths["/v1/models/running"] and "/predict/sum" in paths
    content = paths["/v2/models/running/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert content["schema"]["required"] == ["inputs", "parameters"]
    assert content["schema"]["properties"]["parameters"]["required"] == ["sequence_id"]
    answer = triton.infer("running", content["example"])
    assert (answer.status, answer.data("total")) == (200, [1])


def test_x14_the_page_for_people_shows_what_works(triton: Server) -> None:
    """The box to try it sends a request that is a sequence by itself."""
    page = triton.get("/docs").body.decode()
    found = re.search('<form data-path="(/v2/models/running/generate)"><textarea[^>]*>([^<]*)</textarea>', page)
    assert found is not None and 'data-path="/predict/running"' not in page
    answer = triton.request("POST", found[1], unescape(found[2]).encode())
    assert (answer.status, answer.json["total"]) == (200, 1)


def test_x14_requests_of_a_sequence_run_in_order(wire: Wire) -> None:
    """Sent without waiting for answers they add up one after the other; another sequence on the same replica is not lost among them."""
    talk = Talk(wire)
    talk.say(0, start=True)
    hold = -(talk.key)
    with ThreadPoolExecutor() as threads:
        held = threads.submit(talk.say, hold)
        eventually(lambda: wire.server.metric("headgate_inflight_requests", deployment="running") == 1, "it is under way")
        expected, sent = hold, []
        for value in (1, 2, 3):
            before = wire.server.metric("headgate_queue_rows", deployment="running")
            sent.append(threads.submit(talk.say, value))
            eventually(lambda: wire.server.metric("headgate_queue_rows", deployment="running") > before, "it waits")  # noqa: B023
        wire.server.package_file("running-1", f"release{hold}").touch()
        assert held.result()[0] == hold
        for value, request in zip((1, 2, 3), sent, strict=True):
            expected += value
            assert request.result()[0] == expected
    talk.say(0, end=True)


def test_x14_an_error_of_the_model_ends_nothing(wire: Wire) -> None:
    """A request that fails costs itself; the sequence goes on."""
    talk = Talk(wire)
    talk.say(1, start=True)
    assert "thirteen" in talk.refused(13, status=500)
    assert talk.say(2, end=True)[0] == 3


def test_x14_an_idle_sequence_is_over(wire: Wire) -> None:
    """After its idle limit it must be started again; one that is used stays open beyond that."""
    talk = Talk(wire, "brief")
    talk.say(1, start=True)
    begun = time.monotonic()
    total = 1
    while time.monotonic() - begun < 0.5:
        total += 1
        assert talk.say(1)[0] == total
    eventually(lambda: wire.server.metric("headgate_sequences", deployment="brief") == 0, "it is over")
    assert talk.missing() in talk.refused()


def test_x14_open_sequences_are_bounded(wire: Wire) -> None:
    """One more than may be open is answered 429; one that ends makes room; START under an open id takes none."""
    first, second, third = (Talk(wire, "few") for _ in range(3))
    first.say(1, start=True)
    second.say(1, start=True)
    rejected = wire.server.metric("headgate_rejected_total", deployment="few")
    assert "sequences.max_open" in third.refused(start=True, status=429)
    assert wire.server.metric("headgate_rejected_total", deployment="few") == rejected + 1
    assert third.missing() in third.refused()
    assert second.say(5, start=True)[0] == 5
    first.say(1, end=True)
    assert third.say(3, start=True)[0] == 3
    for talk in (second, third):
        talk.say(0, end=True)


def test_x14_the_configuration_says_so(wire: Wire) -> None:
    """Sequence batching with its idle limit, and batch size 1, is what a client finds."""
    found = wire.config("running")
    assert found["sequence_batching"]["max_sequence_idle_microseconds"] == 30_000_000
    assert "direct" in found["sequence_batching"] and "dynamic_batching" not in found and found["max_batch_size"] == 1


# ---- when something changes meanwhile: a server of its own


@pytest.fixture(params=[HttpWire, GrpcWire], ids=["http", "grpc"])
def changing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    """A server with two versions of a stateful model, of which the second has the traffic."""
    models = (
        Served("running", "Running", version=1, replicas=2, idempotent=False),
        Served("running", "Running", version=2, idempotent=False),
    )
    server = Server(tmp_path, models)
    all_linked(server, models)
    yield request.param(server)
    complaints = server.complaints()
    server.stop()
    assert not complaints, complaints[:10]


def shift(server: Server, revision: str) -> None:
    """Give all the traffic to one revision."""
    (deployment,) = server.table.deployments
    split = (Weight(revision=revision, share=10_000),)
    server.apply(msgspec.structs.replace(server.table, deployments=(msgspec.structs.replace(deployment, split=split),)))


def test_x14_open_sequences_stay_on_their_revision(changing: Wire) -> None:
    """The split changes: what is open stays where its state is, what starts goes by the split, and so does an old id that starts anew."""
    talk, again = Talk(changing), Talk(changing)
    before = [one.say(1, start=True)[1] for one in (talk, again)]
    shift(changing.server, "running-1")
    fresh = Talk(changing)
    assert fresh.say(5, start=True)[1] not in before
    assert talk.say(2) == (3, before[0])
    assert again.say(7, start=True)[1] not in before
    shift(changing.server, "running-2")
    assert talk.say(3, end=True) == (6, before[0])
    assert fresh.say(5, end=True)[0] == 10 and again.say(1, end=True)[0] == 8
    assert talk.missing() in talk.refused()
    counts = {one["version"]: one["inference_count"] for one in changing.statistics("running")}
    assert counts == {"1": 4, "2": 4}


def test_x14_a_version_by_name(changing: Wire) -> None:
    """A sequence may be pinned to a version from its start; under another version it is not open."""
    talk = Talk(changing, version="1")
    assert talk.say(1, start=True)[0] == 1
    assert talk.missing() in Talk(changing, key=talk.key, version="2").refused()
    assert Talk(changing, key=talk.key).say(2)[0] == 3
    assert talk.say(3, end=True)[0] == 6


def test_x14_a_lost_replica_ends_its_sequences(changing: Wire) -> None:
    """What was under way fails at once, the next request misses its START, and the sequences of the other replica go on."""
    shift(changing.server, "running-1")
    talk, other = Talk(changing), Talk(changing)
    process, others = talk.say(1, start=True)[1], other.say(1, start=True)[1]
    assert process != others
    with ThreadPoolExecutor() as threads:
        held = threads.submit(talk.refused, -talk.key, status=503)
        waiting_before = changing.server.metric("headgate_queue_rows", deployment="running")
        eventually(lambda: changing.server.metric("headgate_inflight_requests", deployment="running") >= 1, "it is under way")
        waits = threads.submit(talk.refused, 5, status=503)
        eventually(
            lambda: changing.server.metric("headgate_queue_rows", deployment="running") > waiting_before, "another waits behind it"
        )
        os.kill(process, signal.SIGKILL)
        for request in (held, waits):
            assert f"with it sequence {talk.key}; start it again" in request.result()
    assert talk.missing() in talk.refused()
    assert other.say(2, end=True) == (3, others)
    assert talk.say(1, start=True)[1] == others
