"""A real gateway with real replicas for the tests, without supervisor and control: packages and a routing table are written by hand."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import headgate
from headgate.control.gateways import FRAME, HELLO, PROTOCOL, REPORT, ROUTES, frame
from headgate.home import Home
from headgate.journal import decode_report
from headgate.package.manifest import Manifest
from headgate.package.signature import Signature, TensorSpec
from headgate.routes import DeploymentRoute, RevisionRoute, RouteTable, Weight, encode_table
from headgate.runtimes.python import PythonRuntime

MODELS = Path(__file__).with_name("models.py")
BOOTSTRAP = Path(headgate.__file__).with_name("serving") / "bootstrap.py"
SECONDS = 60.0
"""How long a condition may take to come true on a loaded machine."""


class Served(NamedTuple):
    """One revision of a deployment. Several of one name are its versions; the last one gets the traffic."""

    name: str
    kind: str
    """The class in ``models.py``."""
    version: int = 1
    replicas: int = 1
    max_rows: int = 256
    max_delay: float = 0.0
    max_queue_rows: int = 8192
    splittable: bool = True
    idempotent: bool = True
    timeout: float = 30.0
    aliases: Mapping[str, int] = {}
    v1: str = "tfserving"
    """Dialect of its ``/v1`` paths."""
    content: Mapping[str, str] = {}
    """By name of an input or output of BYTES, what its elements are (`headgate.package.signature.TensorSpec.content`)."""
    device: str = "cpu"
    sequence_idle: float = 60.0
    max_sequences: int = 1024
    answers: str = ""
    """How tables of answers are laid out (`headgate.package.signature.Signature.answers`)."""
    example: Any = None
    """The package's input example."""

    @property
    def revision(self) -> str:
        """As in ``fraud-1``."""
        return f"{self.name}-{self.version}"


class Answer(NamedTuple):
    """One HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, or the JSON in front of its binary tensors."""
        length = self.headers.get("inference-header-content-length")
        return json.loads(self.body[: int(length)] if length else self.body)

    @property
    def error(self) -> str:
        """The text of an error."""
        return str(self.json["error"])

    def data(self, output: str) -> Any:
        """Return ``data`` of the output called ``output``."""
        return next(tensor["data"] for tensor in self.json["outputs"] if tensor["name"] == output)

    @property
    def blobs(self) -> bytes:
        """What follows the JSON."""
        return self.body[int(self.headers["inference-header-content-length"]) :]


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until ``condition`` is true and return what it gave."""
    end = time.monotonic() + SECONDS
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {SECONDS:g} s: {what}")
        time.sleep(0.005)


class Server:
    """Starts on construction; `stop` ends every process and says what the gateway complained of."""

    def __init__(
        self,
        folder: Path,
        models: Iterable[Served],
        *,
        limits: Mapping[str, float] | None = None,
        address: str = "127.0.0.1",
        absent: Sequence[Served] = (),
    ) -> None:
        self.home = Home(folder).create()
        self.folder = folder
        self.address = address
        models = list(models)
        self.signatures = {served.revision: self._package(served) for served in [*models, *absent]}
        self.table = self._table([*models, *absent])
        """The routing table in force."""
        self.home.routes.write_bytes(encode_table(self.table))
        self.log = folder / "gateway.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start_gateway(limits or {})
            for served in models:
                for number in range(served.replicas):
                    self._start_replica(served, number)
            eventually(lambda: all(self._ready(served) for served in models), f"all models are ready; see {folder}")
        except BaseException:
            self.stop()
            raise

    def _package(self, served: Served) -> Signature:
        package = self.home.store / served.revision
        (package / "files").mkdir(parents=True)
        shutil.copy(MODELS, package / "files" / "models.py")
        signature = msgspec.structs.replace(signature_of(served.kind, served.content), answers=served.answers)
        manifest = Manifest(runtime="python", entry=f"models.py:{served.kind}", signature=signature, files={})
        (package / "manifest.json").write_bytes(manifest.encode())
        return signature

    def _table(self, models: Sequence[Served]) -> RouteTable:
        return RouteTable(
            id=1,
            deployments=tuple(
                self._deployment([served for served in models if served.name == name])
                for name in dict.fromkeys(served.name for served in models)
            ),
        )

    def _deployment(self, versions: Sequence[Served]) -> DeploymentRoute:
        last = versions[-1]
        return DeploymentRoute(
            name=last.name,
            model=last.name,
            timeout=last.timeout,
            split=(Weight(revision=last.revision, share=10_000),),
            revisions=tuple(self._revision(served) for served in versions),
            aliases=dict(last.aliases),
            v1=last.v1,
        )

    def _revision(self, served: Served) -> RevisionRoute:
        return RevisionRoute(
            name=served.revision,
            version=served.version,
            signature=msgspec.Raw(msgspec.json.encode(self.signatures[served.revision])),
            platform="python",
            batch_timeout=SECONDS,
            max_rows=served.max_rows,
            max_delay=served.max_delay,
            max_queue_rows=served.max_queue_rows,
            splittable=served.splittable,
            idempotent=served.idempotent,
            expected=served.replicas,
            device=served.device,
            sequence_idle=served.sequence_idle,
            max_sequences=served.max_sequences,
            example=b"" if served.example is None else json.dumps(served.example).encode(),
        )

    def _start_gateway(self, limits: Mapping[str, float]) -> None:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with socket.socket(family) as listener:
            listener.bind((self.address, 0))
            listener.listen(1024)
            self.port: int = listener.getsockname()[1]
            config = {
                "home": str(self.folder),
                "id": "gateway-0",
                "listener": listener.fileno(),
                "drain_delay": 0,
                "limits": limits,
            }
            self.gateway = self._start([sys.executable, "-m", "headgate.serving.main"], config, self.log, (listener.fileno(),))
        eventually(self.home.gateway_socket.exists, "the gateway listens for replicas")

    def _start_replica(self, served: Served, number: int) -> None:
        config = {
            "id": f"{served.revision}.{number}",
            "revision": served.revision,
            "package": str(self.home.store / served.revision),
            "device": "cpu",
            "threads": 1,
            "batch_timeout": SECONDS,
            "load_timeout": SECONDS,
            "links": [str(self.home.gateway_socket)],
        }
        log = self.folder / f"{served.revision}.{number}.log"
        self._start([self._python(served), "-P", str(BOOTSTRAP), "replica"], config, log)

    def _python(self, served: Served) -> str:
        return sys.executable

    def _start(
        self, command: list[str], config: Mapping[str, Any], log: Path, fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        environment = os.environ | {"HEADGATE_CONFIG": json.dumps(config)}
        with open(log, "wb") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, pass_fds=fds, start_new_session=True)
        self._processes.append(process)
        return process

    def _ready(self, served: Served) -> bool:
        for process in self._processes:
            assert process.poll() is None, f"a process has ended ({process.returncode}); see the logs in {self.folder}"
        return self.get(f"/v2/models/{served.name}/versions/{served.version}/ready").status == 200

    def make_default(self, name: str | None) -> None:
        """Send the gateway, as control does, a table with another default deployment, and wait until it is in force."""
        self.apply(msgspec.structs.replace(self.table, default_deployment=name))

    def apply(self, table: RouteTable) -> None:
        """Send the gateway, as control does, a table under a new number, and wait until it is in force."""
        self.table = msgspec.structs.replace(table, id=self.table.id + 1)
        with socket.socket(socket.AF_UNIX) as link, link.makefile("rb") as said:
            link.settimeout(SECONDS)
            link.connect(str(self.home.gateway_socket))
            hello = json.dumps({"protocol": PROTOCOL, "role": "control"}).encode()
            link.sendall(frame(HELLO, hello) + frame(ROUTES, encode_table(self.table)))
            reported = 0
            while reported < self.table.id:
                length, kind, _, _, _ = FRAME.unpack(said.read(FRAME.size))
                payload = said.read(length + 4 - FRAME.size)
                reported = decode_report(payload).table if kind == REPORT else reported

    # ---- talking to it

    def connect(self) -> socket.socket:
        """Return a connected socket, with a time limit that only a hang reaches."""
        return socket.create_connection((self.address, self.port), timeout=SECONDS)

    def client(self) -> http.client.HTTPConnection:
        """Return a connection of the standard library's client."""
        return http.client.HTTPConnection(self.address, self.port, timeout=SECONDS)

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request on a connection of its own."""
        client = self.client()
        try:
            client.request(method, path, body, dict(headers or {}))
            return answer_of(client.getresponse())
        finally:
            client.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET."""
        return self.request("GET", path, None, headers)

    def infer(
        self, model: str, body: Any, headers: Mapping[str, str] | None = None, *, blobs: bytes = b"", version: str = ""
    ) -> Answer:
        """POST an infer request: ``body`` as JSON (`bytes`: as they are), with binary tensors behind it where ``blobs`` are given."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = dict(headers or {})
        if blobs:
            headers.setdefault("Inference-Header-Content-Length", str(len(raw)))
        path = f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"
        return self.request("POST", path, raw + blobs, headers)

    def raw(self, data: bytes, *, shut: bool = False) -> bytes:
        """Send ``data`` on a connection of its own and return all that comes back until the server closes.

        ``shut``: say that nothing follows, for data after which the server would wait for more.
        """
        with self.connect() as sock:
            with suppress(ConnectionError):
                sock.sendall(data)
                if shut:
                    sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    def package_file(self, revision: str, name: str) -> Path:
        """Return the path of a file beside the code of a revision's model."""
        return self.home.store / revision / "files" / name

    def executed(self, revision: str) -> list[int]:
        """Return what the `Gate` of a revision has computed, in order."""
        path = self.package_file(revision, "executed")
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric whose labels include ``labels``."""
        total = 0.0
        for line in self.get("/metrics").body.decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{key}="{text}"' in sample for key, text in labels.items()):
                total += float(value)
        return total

    # ---- the end

    def complaints(self) -> list[str]:
        """Return the lines of the gateway's log that tell of an exception nobody expected."""
        text = self.log.read_text(errors="replace")
        return [line for line in text.splitlines() if "Traceback" in line or "Error" in line or "xception" in line]

    def stop(self) -> None:
        """End every process that was started."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.home.sockets != self.home.run:
            shutil.rmtree(self.home.sockets, ignore_errors=True)


def signature_of(kind: str, content: Mapping[str, str] | None = None) -> Signature:
    """Return what the hints of a class in ``models.py`` say, with what its BYTES are."""
    runtime = PythonRuntime()
    runtime.load(MODELS, attribute=kind, device="cpu", threads=1)
    described = runtime.describe(None)
    assert described.outputs is not None and described.batched is not None
    runtime.unload()
    inputs, outputs = (
        tuple(
            TensorSpec(
                name=info.name,
                dtype=info.dtype,
                shape=info.shape,
                optional=info.optional,
                content=(content or {}).get(info.name, ""),
            )
            for info in infos
        )
        for infos in (described.inputs, described.outputs)
    )
    return Signature(
        inputs=inputs,
        outputs=outputs,
        batched=described.batched,
        parameters=described.parameters,
        streams=described.streams,
        stateful=described.stateful,
    )


def answer_of(response: http.client.HTTPResponse) -> Answer:
    """Read one answer whole."""
    body = response.read()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def read_answer(sock: socket.socket, method: str = "POST") -> Answer:
    """Read the next answer from a socket on which nothing was pipelined (what follows the answer may be lost)."""
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    return answer_of(response)


def read_all(sock: socket.socket) -> bytes:
    """Read until the server closes; a reset counts as closing."""
    parts = []
    with suppress(ConnectionError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    """Return one input of a JSON request."""
    described: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(shape)}
    if data is not None:
        described["data"] = data
    if parameters:
        described["parameters"] = parameters
    return described
