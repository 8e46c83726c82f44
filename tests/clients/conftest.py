"""Foreign clients run in environments of their own, against a server of the conformance suite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "conformance"))

from serving import Served, Server  # noqa: E402  (the path is only known now)

MODELS = (
    Served("types", "Types", max_rows=8),
    Served("sum", "Sum", max_rows=8),
    Served("scalar", "Scalar"),
    Served("text", "Text", max_rows=8),
    Served("special", "Special"),
    Served("gate", "Gate", max_rows=1, max_queue_rows=4),
    Served("tags", "Tags", max_rows=8, replicas=2),
    Served("two", "One", version=1, max_rows=8, splittable=False),
    Served("two", "Two", version=2),
    Served("asked", "Asked"),
    Served("words", "Words"),
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One gateway with the models; at the end it must still live and have met no exception that nobody expected."""
    running = Server(tmp_path_factory.mktemp("clients"), MODELS)
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"
