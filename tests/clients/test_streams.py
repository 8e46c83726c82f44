"""Real clients of models that answer in parts: Triton's over gRPC; curl, httpx, Headgate's own and its command over HTTP. Triton's checks
stand in ``triton_stream_calls.py``."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from foreign import checks_of, run_checks
from serving import Server, eventually

import headgate
from headgate.errors import ModelFailed

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


def test_headgates_own_client(server: Server) -> None:
    """Parts come one by one, an error after those before it; leaving the loop stops the model, and the client goes on."""
    with headgate.Client(f"http://{server.address}:{server.port}") as client:
        assert list(client.stream("words", "one two")) == ["one", "two"]
        assert list(client.stream("words", {"text": "one"}, parameters={"t": 1})) == [{"output": "one"}, {"output": "t=1"}]
        got = []
        with pytest.raises(ModelFailed, match="told to"):
            got.extend(client.stream("words", "one !raise"))
        parts = client.stream("words", "one !raise")
        assert next(parts) == "one"
        with pytest.raises(ModelFailed):
            next(parts)
        left = client.stream("words", "!many1000004")
        assert next(left).strip() == "0"
        left.close()  # type: ignore[attr-defined]  # it is a generator
        ended = server.package_file("words-1", "ended")
        eventually(lambda: ended.read_text().splitlines()[-1:] == ["!many1000004"], "the generator is closed")
        assert list(client.stream("words", "three")) == ["three"]


def test_headgates_own_asynchronous_client(server: Server) -> None:
    """The same, with async for; two answers of different lengths at a time."""

    async def talk() -> tuple[list[str], list[str]]:
        async with headgate.AsyncClient(f"http://{server.address}:{server.port}") as client:

            async def words(text: str) -> list[str]:
                return [part async for part in client.stream("words", text)]

            with pytest.raises(ModelFailed, match="told to"):
                await words("one !raise")
            one, two = await asyncio.gather(words("one two"), words("three"))
            return one, two

    assert asyncio.run(talk()) == (["one", "two"], ["three"])


def test_the_command(server: Server) -> None:
    """headgate predict prints a part as soon as it is there; for programs, all of them at the end."""
    command = [sys.executable, "-m", "headgate.cli.main", "predict", "words", "--url", f"http://{server.address}:{server.port}"]
    (server.package_file("words-1", "release98")).unlink(missing_ok=True)
    with subprocess.Popen([*command, json.dumps({"text": "one !wait98 two"})], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline()) == {"output": "one"}
        server.package_file("words-1", "release98").touch()
        assert json.loads(running.stdout.readline()) == {"output": "two"}
        assert running.wait(60) == 0
    done = subprocess.run(
        [*command, '{"text": "one two"}', "--output", "json"], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == [{"output": "one"}, {"output": "two"}]
