"""The real clients of Triton, HTTP and gRPC, and its extensions. What is checked, and why, stands in ``triton_extension_calls.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign import checks_of, run_checks
from serving import Served, Server

SCRIPT = Path(__file__).with_name("triton_extension_calls.py")
CHECKS = [f"{check}-{transport}" for check in checks_of(SCRIPT) for transport in ("http", "grpc")]
MODELS = (
    Served("sum", "Sum", max_rows=8),
    Served("two", "One", version=1, max_rows=8),
    Served("two", "Two", version=2),
    Served("running", "Running", replicas=2, idempotent=False),
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The outcome of every check: ``ok``, or a traceback."""
    server = Server(tmp_path_factory.mktemp("extensions"), MODELS)
    yield run_checks("tritonclient", SCRIPT, f"{server.address}:{server.port}")
    complaints = server.complaints()
    server.stop()
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"


@pytest.mark.parametrize("check", CHECKS)
def test_tritonclient_extensions(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run over both transports."""
    assert sorted(outcomes) == sorted(CHECKS)
