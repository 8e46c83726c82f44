"""The server that the tests of Triton's extensions talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Served, Server
from triton_wire import GrpcWire, HttpWire, Wire, all_linked

MODELS = (
    Served("sum", "Sum", max_rows=8, max_delay=0.002),
    Served("counted", "Sum", max_rows=8),
    Served("alone", "Sum", max_rows=1, device="cuda:1"),
    Served("scalar", "Scalar"),
    Served("people", "People", max_rows=8),
    Served("types", "Types", max_rows=8),
    Served("text", "Text", max_rows=8),
    Served("gate", "Gate", max_rows=1, max_queue_rows=4),
    Served("two", "One", version=1, splittable=False),
    Served("two", "Two", version=2, replicas=2, aliases={"champion": 2}),
    Served("running", "Running", replicas=2, idempotent=False, sequence_idle=30.0),
    Served("brief", "Running", idempotent=False, sequence_idle=0.2),
    Served("few", "Running", idempotent=False, max_sequences=2),
)
ABSENT = (Served("absent", "Sum"),)


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One gateway with all the models; at the end it must still live and have met no exception that nobody expected."""
    running = Server(tmp_path_factory.mktemp("triton"), MODELS, absent=ABSENT)
    all_linked(running, MODELS)
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"


@pytest.fixture(params=[HttpWire, GrpcWire], ids=["http", "grpc"])
def wire(request: pytest.FixtureRequest, triton: Server) -> Wire:
    """A client of that server, over HTTP and over gRPC."""
    found: Wire = request.param(triton)
    return found
