"""Hooks of a real server: a receiver that fails, control that is killed meanwhile, commands, what is refused, and the stream of events."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop
from serving_home import Serving, ServingHome, connect, eventually

from headgate.clock import SystemClock
from headgate.control import hook_delivery
from headgate.control.hook_delivery import Delivery, Message
from headgate.control.hook_guard import Rules
from headgate.spec import HookSpec

MODEL = """
class Price:
    def predict(self, area: float) -> float:
        return VERSION
"""
SECRET = bytes(range(32))


class Call(NamedTuple):
    """One POST to the receiver."""

    headers: http.client.HTTPMessage
    body: bytes
    accepted: bool

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver:
    """A web server on loopback: it refuses two calls, holds the third until told otherwise, and takes the rest."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.held, self.released = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        receiver = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.take(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.place = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def take(self, door: BaseHTTPRequestHandler) -> None:
        body = door.rfile.read(int(door.headers["content-length"]))
        with self._lock:
            number = len(self.calls) + 1
            self.calls.append(Call(door.headers, body, number > 3))
        if number == 3:
            self.held.set()
            self.released.wait(60)
        try:
            door.send_response(503 if number <= 3 else 204)
            door.end_headers()
        except OSError:
            assert number == 3  # whoever asked was killed

    def accepted(self) -> list[str]:
        return [call.event["data"]["what"] for call in self.calls if call.accepted]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a home with three versions of a model."""
    made = ServingHome(tmp_path_factory.mktemp("registered") / "h")
    for version in (1, 2, 3):
        made.done("push", f"{made.write('price.py', MODEL.replace('VERSION', str(float(version))))}:Price")
    return made.home.path


@pytest.fixture
def home(tmp_path: Path, registered: Path) -> Iterator[ServingHome]:
    """A home of its own with these versions, and a secret."""
    made = ServingHome(tmp_path / "h")
    shutil.copytree(registered, made.home.path)
    made.home.secrets.mkdir(mode=0o700)
    path = made.home.secrets / "RECEIVER"
    path.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    path.chmod(0o600)
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def put(serving: Serving, version: int, *hooks: Any) -> Any:
    """Ask for a version of price with these hooks."""
    return serving.request("PUT", "/deployments/price", {"model": f"price@{version}", "hooks": list(hooks)}, control=True)


def history(serving: Serving) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = serving.request("GET", "/deployments/price/history", control=True).json
    return lines


def is_signed(call: Call) -> bool:
    """What a receiver does: the signature of Standard Webhooks, over id, time and body."""
    signed = b".".join([call.headers["webhook-id"].encode(), call.headers["webhook-timestamp"].encode(), call.body])
    right = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    return call.headers["webhook-signature"] == f"v1,{right}"


def test_every_line_arrives_although_the_receiver_fails_and_control_is_killed(home: ServingHome, receiver: Receiver) -> None:
    """Refused twice, then control is killed -9 while the receiver has the event and has not answered: it comes again, with the same id,
    and then everything that follows, in order; each signed."""
    serving = home.serve("--hook-allow", receiver.place).until_settled()
    hook = {"url": f"http://{receiver.place}/x", "secret": "RECEIVER"}
    assert put(serving, 1, hook).status == 202
    serving.until(receiver.held.is_set, "the third attempt is under way")
    os.kill(serving.pid("control"), signal.SIGKILL)
    receiver.released.set()
    serving.until(lambda: receiver.accepted() == ["switched"], "the first event has arrived")
    for version in (2, 3):
        serving.until(lambda version=version: put(serving, version, hook).status == 202, "control answers again")
        serving.until(lambda version=version: len(history(serving)) == version, "it has taken over")
    lines = serving.until(lambda: len(receiver.accepted()) == 3 and history(serving), "all events have arrived")
    accepted = [call.event for call in receiver.calls if call.accepted]
    assert [(event["data"]["what"], event["data"]["why"]) for event in accepted] == [(line["what"], line["why"]) for line in lines]
    assert len({call.event["id"] for call in receiver.calls[:4]}) == 1 and len({event["id"] for event in accepted}) == 3
    assert all(is_signed(call) and call.headers["webhook-id"] == call.event["id"] for call in receiver.calls)
    assert "answered 503; attempt 2 in" in serving.log("control")


def test_a_command_is_told_where_the_owner_allows_it(home: ServingHome, tmp_path: Path) -> None:
    """It gets the event on its standard input, and none of the server's sockets."""
    serving = home.serve("--hook-commands").until_settled()
    out = tmp_path / "out"
    code = f"import os, sys; open({str(out)!r}, 'w').write(sys.stdin.read() + '\\n' + ' '.join(os.listdir('/proc/self/fd')))"
    assert put(serving, 1, {"command": [sys.executable, "-c", code], "events": ["switched"]}).status == 202
    text, files = serving.until(lambda: out.read_text().splitlines(), "the command was run")
    assert json.loads(text)["type"] == "headgate.rollout.switched"
    assert len(files.split()) <= 5, files  # the three standard files, what it writes, and the listing itself


def test_tls_wants_a_certificate_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTPS nothing is sent before the other side has shown a certificate that the machine trusts, for the name of the URL."""
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate} -subj /CN=x -addext subjectAltName=DNS:right.test"
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    trusted = ssl.create_default_context(cafile=certificate)
    got: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def go() -> list[str]:
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(certificate, key)
        deliver = Delivery(Rules(("right.test", "wrong.test")), tmp_path, SystemClock(), resolve)
        async with await asyncio.start_server(receive, "127.0.0.1", 0, ssl=serving) as server:
            port = server.sockets[0].getsockname()[1]

            async def call(name: str) -> str:
                return await deliver(HookSpec(url=f"https://{name}.test:{port}/x"), Message("1-1", b"{}"))

            stranger = await call("right")
            monkeypatch.setattr(hook_delivery, "_tls", lambda: trusted)
            return [stranger, await call("wrong"), await call("right")]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stranger, wrong, right = runner.run(go())
    assert "certificate verify failed" in stranger and "Hostname mismatch" in wrong and right == ""
    assert got == [b"POST /x HTTP/1.1\r\n"]


def test_what_the_owner_has_not_allowed_is_refused(home: ServingHome, receiver: Receiver) -> None:
    """Commands, this machine and its network are closed until the server is started otherwise; the words say how."""
    serving = home.serve().until_settled()
    for hook, said in (
        ({"command": ["true"]}, "hooks[0].command: this server runs no commands for deployments"),
        (f"http://{receiver.place}/", f"--hook-allow {receiver.place}"),
        ({"url": "https://a.example/", "secret": "OTHER"}, "hooks[0].secret: there is no secret 'OTHER'"),
    ):
        refused = put(serving, 1, hook)
        assert refused.status == 400 and said in refused.error, refused.body
    wrong = home.run("deploy", "price@1", "--hooks", f"http://{receiver.place}/")
    assert wrong.returncode != 0 and f"--hook-allow {receiver.place}" in wrong.stderr
    # What looks like a name is looked up when it is called; this one the resolver takes for 127.0.0.1, and nothing is sent.
    assert put(serving, 1, f"http://2130706433:{receiver.place.rpartition(':')[2]}/").status == 202
    eventually(lambda: "2130706433 is 127.0.0.1, which is no address" in serving.log("control"), "the call was refused")
    assert receiver.calls == []


def test_the_history_is_streamed(home: ServingHome) -> None:
    """Lines come as they are written; a client that comes back hears what it missed, and what is no id of ours is a 400."""
    serving = home.serve().until_settled()
    assert put(serving, 1).status == 202
    serving.until(lambda: history(serving), "it serves")
    connection = connect(serving.control_url)
    connection.request("GET", "/deployments/price/events?tail=1")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream; charset=utf-8")
    first = event_of(answer)
    assert put(serving, 2).status == 202
    second = event_of(answer)
    connection.close()
    assert [first["data"], second["data"]] == history(serving)
    assert first["event"] == "switched" and first["id"] == str(first["data"]["id"])
    again = connect(serving.control_url)
    again.request("GET", "/deployments/price/events", headers={"last-event-id": first["id"]})
    assert event_of(again.getresponse()) == second
    again.close()
    refused = serving.request("GET", "/deployments/price/events", control=True, last_event_id="x")
    assert refused.status == 400 and "Last-Event-ID" in refused.error
    assert serving.request("GET", "/deployments/none/events", control=True).status == 404


def event_of(answer: http.client.HTTPResponse) -> dict[str, Any]:
    """Read the next event of a stream; comments are passed over."""
    fields: dict[str, Any] = {}
    while line := answer.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if not name and fields:
            return fields | {"data": json.loads(fields["data"])}
        if name and not line.startswith(b":"):
            fields[name] = value
    raise AssertionError("the stream has ended")
