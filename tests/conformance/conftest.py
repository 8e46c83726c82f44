"""The servers that the conformance tests talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deployments import ABSENT, DIALECTS
from serving import Served, Server

MODELS = (
    Served("types", "Types", max_rows=8),
    Served("sum", "Sum", max_rows=8),
    Served("scalar", "Scalar"),
    Served("ragged", "Ragged", max_rows=8),
    Served("plane", "Plane"),
    Served("text", "Text", max_rows=8),
    Served("special", "Special"),
    Served("gate", "Gate", max_rows=1, max_queue_rows=4),
    Served("probe", "Gate", max_rows=8),
    Served("tags", "Tags", max_rows=8, replicas=2),
    Served("two", "One", version=1, max_rows=8, splittable=False),
    Served("two", "Two", version=2, aliases={"champion": 2, "before": 1}),
    Served("asked", "Asked"),
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One gateway with all the models; at the end it must still live and have met no exception that nobody expected."""
    running = Server(tmp_path_factory.mktemp("served"), MODELS)
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"


@pytest.fixture(scope="session")
def dialects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One gateway with deployments of all three dialects of ``/v1``; two of them have no replica."""
    running = Server(tmp_path_factory.mktemp("dialects"), DIALECTS, absent=ABSENT)
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with low limits, on IPv6, of whose two models one has no replica."""
    limits = {
        "head_bytes": 8192, "json_bytes": 65536, "binary_bytes": 262144, "head_seconds": 0.5, "body_seconds": 0.5, "idle_seconds": 3.0,
        "connections": 64, "chunks": 32,
    }  # fmt: skip
    running = Server(
        tmp_path_factory.mktemp("narrow"), [Served("sum", "Sum")], limits=limits, address="::1", absent=[Served("absent", "Sum")]
    )
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"
