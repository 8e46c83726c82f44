"""Real clients of models that answer in parts: Triton's over gRPC, curl and httpx over HTTP. Triton's checks stand in
``triton_stream_calls.py``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from foreign import checks_of, run_checks
from serving import Server

SCRIPT = Path(__file__).with_name("triton_stream_calls.py")
CHECKS = checks_of(SCRIPT)


@pytest.fixture(scope="session")
def outcomes(server: Server) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback."""
    folder = server.package_file("words-1", "")
    return run_checks("tritonclient", SCRIPT, f"{server.address}:{server.port}", str(folder))


@pytest.mark.parametrize("check", CHECKS)
def test_tritonclient(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run."""
    assert sorted(outcomes) == sorted(CHECKS)


@pytest.mark.parametrize("flags", [[], ["--http2-prior-knowledge"], ["--http1.0"]])
def test_curl(server: Server, flags: list[str]) -> None:
    """curl -N prints the events, whichever HTTP it speaks."""
    url = f"http://{server.address}:{server.port}/v2/models/words/generate_stream"
    command = ["curl", "-sSN", "--fail-with-body", "--max-time", "60", *flags, url, "-d", json.dumps({"text": "one two"})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line[6:])["output"] for line in done.stdout.splitlines() if line] == ["one", "two"]


def test_httpx(server: Server) -> None:
    """httpx iterates over the lines of an event stream, and the connection is used again."""
    with httpx.Client(base_url=f"http://{server.address}:{server.port}", timeout=60, trust_env=False) as client:
        for _ in range(2):
            with client.stream(
                "POST", "/predict/words", json={"text": "one two"}, headers={"accept": "text/event-stream"}
            ) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                found = [json.loads(line[6:])["output"] for line in answer.iter_lines() if line]
            assert found == ["one", "two"]
