"""A home of a test: real servers started by ``headgate serve`` on it, commands run on it, and what a client sees of it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from headgate.home import Home
from headgate.supervision import processes

COMMAND = (sys.executable, "-P", "-m", "headgate.cli.main")
SECONDS = 60.0
"""How long a condition may take to come true on a loaded machine."""


class Answer(NamedTuple):
    """What a client got; header names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    seconds: float
    """From sending to the last byte."""

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of an error."""
        return str(self.json["error"])


def eventually(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until ``condition`` is true and return what it gave. `OSError` and a broken answer count as not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except (OSError, ValueError, LookupError, http.client.HTTPException):
            found = None
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    seen = processes.stat(pid)
    return seen is not None and seen.state not in "ZX"


class Serving:
    """One running ``headgate serve``."""

    def __init__(self, home: Home, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.home = home
        self._log = log
        self._known: dict[str, Any] = {}
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", *words, "--home", str(home.path)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    def until(self, condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        """`eventually`, as long as the server lives."""

        def alive_and() -> Any:
            assert self.process.poll() is None, f"the server has ended ({self.process.returncode}):\n{self.said}"
            return condition()

        return eventually(alive_and, f"{what}; the server said:\n{self.said[-3000:]}", seconds)

    # ---- where and who it is

    @property
    def facts(self) -> dict[str, Any]:
        """``run/server.json`` of this server, once it is there."""
        if not self._known:
            self._known = self.until(self._read_facts, "the server has written where it is")
        return self._known

    def _read_facts(self) -> dict[str, Any] | None:
        facts: dict[str, Any] = json.loads(self.home.server.read_bytes())
        return facts if facts["pid"] == self.process.pid else None

    @property
    def url(self) -> str:
        """Where models answer."""
        return str(self.facts["inference_url"])

    @property
    def control_url(self) -> str:
        """Where commands go."""
        return str(self.facts["control_url"])

    def observed(self) -> dict[str, dict[str, Any]]:
        """What the supervisor last wrote about its processes, by id."""
        found: dict[str, dict[str, Any]] = json.loads(self.home.observed.read_bytes())["processes"]
        return found

    def pid(self, process: str) -> int:
        """Return the pid of ``control``, ``gateway-0`` or a replica, once it runs."""
        return int(self.until(lambda: self.observed()[process]["pid"], f"{process} runs"))

    def pids(self) -> dict[str, int]:
        """Return the pids of everything that runs, the server's own under ``supervisor``."""
        running = {name: entry["pid"] for name, entry in self.observed().items() if entry["pid"]}
        return {"supervisor": self.process.pid, **running}

    def log(self, process: str) -> str:
        """Return what a process has written."""
        return self.home.log(process).read_text()

    # ---- asking it

    def request(
        self, method: str, path: str, body: Any = None, *, control: bool = False, timeout: float = SECONDS, **headers: str
    ) -> Answer:
        """Send one request on a connection of its own; underscores in names of headers mean hyphens."""
        connection = connect(self.control_url if control else self.url, timeout)
        try:
            return exchange(connection, method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        finally:
            connection.close()

    def get(self, path: str, **rest: Any) -> Answer:
        """GET."""
        return self.request("GET", path, **rest)

    def ask(self, deployment: str, row: Mapping[str, Any], **headers: str) -> Answer:
        """Send one row."""
        return self.request("POST", f"/predict/{deployment}", row, **headers)

    def ask_all(self, deployment: str, rows: Sequence[Mapping[str, Any]], **headers: str) -> list[Answer]:
        """Send every row as a request of its own, all at once."""
        with ThreadPoolExecutor(len(rows)) as threads:
            return list(threads.map(lambda row: self.ask(deployment, row, **headers), rows))

    def is_ready(self, deployment: str = "") -> bool:
        """Whether the server, or one deployment, says that it is ready."""
        return self.get(f"/v2/models/{deployment}/ready" if deployment else "/v2/health/ready").status == 200

    def until_ready(self, *deployments: str) -> Serving:
        """Wait until all of these answer, and return this."""
        for deployment in deployments:
            self.until(lambda name=deployment: self.is_ready(name), f"{deployment} is ready")
        return self

    def until_settled(self) -> Serving:
        """Wait until it has told its user everything, and return this."""
        self.until(lambda: "Ctrl-C" in self.said, "it has printed how to use it")
        return self

    def status(self, deployment: str) -> dict[str, Any]:
        """What control says of a deployment."""
        found: dict[str, Any] = self.get(f"/deployments/{deployment}", control=True).json
        return found

    # ---- ending it

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


class ServingHome:
    """A home, with everything that was started on it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.home = Home(folder / "home")
        kept = {name: text for name, text in os.environ.items() if not name.startswith("HEADGATE_")}
        self.environment = {**kept, "HEADGATE_HOME": str(self.home.path), **environment}
        self._started: list[Serving] = []

    def write(self, name: str, text: str) -> Path:
        """Write a file beside the home and return its path."""
        path = self.folder / name
        path.write_text(text)
        return path

    def serve(self, *words: str) -> Serving:
        """Start a server, on free ports where ``words`` say nothing else, without a drain delay likewise."""
        given = list(words)
        for flag, value in (("--port", "0"), ("--control-port", "0"), ("--drain-delay", "0")):
            given += [] if flag in words else [flag, value]
        log = self.folder / f"serve-{len(self._started)}.log"
        self._started.append(Serving(self.home, given, self.environment, log))
        return self._started[-1]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this home."""
        return subprocess.run(
            [*COMMAND, *words], env=self.environment | environment, capture_output=True, text=True, timeout=120, check=False
        )

    def done(self, *words: str, **environment: str) -> str:
        """Run a command that must succeed and return what it printed."""
        ended = self.run(*words, **environment)
        assert ended.returncode == 0, f"{' '.join(words)}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def close(self) -> None:
        """End every server; where one was killed, what it left."""
        for serving in self._started:
            if serving.process.poll() is None:
                serving.process.send_signal(signal.SIGTERM)
        for serving in self._started:
            try:
                serving.process.wait(30)
            except subprocess.TimeoutExpired:
                serving.process.kill()
                serving.process.wait()
        self._end_orphans()
        if self.home.sockets != self.home.run:
            shutil.rmtree(self.home.sockets, ignore_errors=True)

    def _end_orphans(self) -> None:
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                pid, environment = int(entry.name), (entry / "environ").read_bytes()
                if str(self.home.path).encode() in environment and b"HEADGATE_CONFIG=" in environment:
                    os.kill(pid, signal.SIGKILL)


def connect(url: str, timeout: float = SECONDS, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """Return a keep-alive connection to the host and port of a URL."""
    scheme, _, place = url.partition("://")
    if scheme == "https":
        return http.client.HTTPSConnection(place, timeout=timeout, context=context or ssl._create_unverified_context())
    return http.client.HTTPConnection(place, timeout=timeout)


def exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send one request on ``connection`` and read its answer; a body that is not bytes is sent as JSON."""
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    begun = time.monotonic()
    connection.request(method, path, raw, dict(headers or {}))
    response = connection.getresponse()
    content = response.read()
    return Answer(response.status, content, {name.lower(): text for name, text in response.getheaders()}, time.monotonic() - begun)


class Load:
    """A client in a process of its own (``load_client.py``): steady requests on keep-alive connections, never one twice."""

    def __init__(self, url: str, deployment: str, folder: Path, *, connections: int = 4, pause: float = 0.005) -> None:
        self._records: list[dict[str, Any]] = []
        words = [url, deployment, str(connections), str(pause)]
        script = Path(__file__).with_name("load_client.py")
        self._errors = folder / f"load-{deployment}-{time.monotonic_ns()}.log"
        with open(self._errors, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._records.append(json.loads(line))

    @property
    def records(self) -> list[dict[str, Any]]:
        """What was answered so far: ``begun`` and ``ended`` (monotonic), ``status``, ``x``, ``version``, ``why``."""
        return list(self._records)

    def until(self, more: int) -> None:
        """Wait for ``more`` answers from now on."""
        goal = len(self._records) + more
        eventually(lambda: len(self._records) >= goal or self.process.poll() is not None, f"{more} more answers")
        assert self.process.poll() is None, f"the load client has ended: {self._errors.read_text()}{self._records[-3:]}"

    def end(self) -> list[dict[str, Any]]:
        """Stop asking and return every record."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(SECONDS)
        self.close()
        assert self._records, self._errors.read_text()
        return self.records

    def close(self) -> None:
        """End the client, if it has not ended, and close its pipes."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def failures(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the records that tell of a request that was not answered well."""
    return [record for record in records if record["why"]]


@contextmanager
def under_load(url: str, deployment: str, folder: Path, *, connections: int = 4, pause: float = 0.005) -> Iterator[Load]:
    """Requests all the while; ended at the end, whatever happens."""
    load = Load(url, deployment, folder, connections=connections, pause=pause)
    try:
        load.until(20)
        yield load
    finally:
        load.close()
