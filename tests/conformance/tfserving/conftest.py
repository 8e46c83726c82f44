"""The server that the tests of TensorFlow Serving's protocol talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Served, Server
from tfserving_client import Client

MODELS = (
    Served("half", "Half", max_rows=8),
    Served("two", "One", version=1, max_rows=8),
    Served("two", "Two", version=2, aliases={"champion": 2, "before": 1, "gone": 7}),
    Served("sum", "Sum", max_rows=8),
    Served("types", "Types", max_rows=8),
    Served("scalar", "Scalar"),
    Served("plane", "Plane"),
    Served("text", "Text"),
    Served("special", "Special"),
    Served("gate", "Gate", max_rows=8, timeout=0.5),
    Served("classifier", "Classifier", max_rows=8),
    Served("scores", "Scores"),
    Served("regressor", "Regressor", max_rows=8),
    Served("pictures", "Pictures"),
    Served("other", "Half", v1="kserve"),
)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One gateway with all the models; at the end it must still live and have met no exception that nobody expected."""
    running = Server(tmp_path_factory.mktemp("tfserving"), MODELS)
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"


@pytest.fixture(scope="session")
def client(served: Server) -> Client:
    """A client of that server."""
    return Client(served)
