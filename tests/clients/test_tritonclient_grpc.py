"""The real gRPC client of Triton against Headgate. What is checked, and why, stands in ``triton_grpc_calls.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign import checks_of, run_checks
from serving import Server

import headgate

SCRIPT = Path(__file__).with_name("triton_grpc_calls.py")
MESSAGES = Path(headgate.__file__).parent / "protocols" / "oip" / "messages.binpb"
CHECKS = checks_of(SCRIPT)


@pytest.fixture(scope="session")
def outcomes(server: Server) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback."""
    gate = server.package_file("gate-1", "")
    return run_checks("tritonclient", SCRIPT, f"{server.address}:{server.port}", str(gate), str(MESSAGES))


@pytest.mark.parametrize("check", CHECKS)
def test_tritonclient_grpc(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run."""
    assert sorted(outcomes) == sorted(CHECKS)
