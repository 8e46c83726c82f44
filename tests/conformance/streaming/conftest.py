"""The server whose models answer in parts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Served, Server

MODELS = (
    Served("words", "Words", timeout=20.0),
    Served("patient", "Words", replicas=2),
    Served("async", "AsyncWords"),
    Served("pieces", "Pieces"),
    Served("two", "AsyncWords", version=1),
    Served("two", "Words", version=2),
    Served("sum", "Sum", max_rows=8),
    Served("scalar", "Scalar"),
    Served("planes", "Planes"),
    Served("plane", "Plane"),
    Served("spoken", "Words", v1="truss", timeout=20.0),
    Served("bytes", "Bytes", v1="truss"),
    Served("pieces-truss", "Pieces", v1="truss"),
)


@pytest.fixture(scope="session")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One gateway with the models; at the end it must still live and have met no exception that nobody expected."""
    running = Server(tmp_path_factory.mktemp("streaming"), MODELS)
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"
