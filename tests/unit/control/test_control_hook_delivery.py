"""One attempt to tell a hook: what is sent and how it is signed, where it must not lead, and what counts as delivered."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from headgate.control import hook_commands, hook_delivery
from headgate.control.hook_delivery import Delivery, Message, Streams, read_secret, sign
from headgate.control.hook_guard import Rules, check_hooks, is_public, place_of, refusal
from headgate.errors import SpecError
from headgate.spec import HookSpec
from headgate.testing.clock import ManualClock

MESSAGE = Message("7-1700000000000000", b'{"specversion":"1.0"}')
OK = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Seen(NamedTuple):
    """What became of one attempt."""

    said: str
    requests: list[bytes]
    """Heads and bodies that the receiver got."""
    looked_up: list[str]
    connected: list[tuple[str, int, str | None]]
    """Address, port and name for TLS."""


class Receiver:
    """Somebody who gives ``answer``, or None ever, at every address but those where nobody is; no name of his is known to others."""

    def __init__(self, answer: bytes | None, addresses: Sequence[str], absent: Sequence[str]) -> None:
        self._answer, self._addresses, self._absent = answer, addresses, absent
        self.requests: list[bytes] = []
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int, str | None]] = []
        self.calls: set[asyncio.Task[None] | None] = set()

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls.add(asyncio.current_task())
        with suppress(ConnectionError):  # nobody has to listen to the end
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head + await reader.readexactly(len(MESSAGE.body)))
            if self._answer is None:
                await reader.read()  # until the other side goes
            else:
                writer.write(self._answer)
            writer.close()
            await writer.wait_closed()

    async def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        return list(self._addresses)

    async def connect(self, address: str, port: int, name: str | None) -> Streams:
        self.connected.append((address, port, name))
        if address in self._absent:
            raise ConnectionRefusedError(f"nobody at {address}")
        return await asyncio.open_unix_connection(self.socket, limit=8192)

    socket = ""

    async def end(self) -> None:
        """Let every call come to its end."""
        while not self.calls and any(place[0] not in self._absent for place in self.connected):
            await asyncio.sleep(0)
        await asyncio.gather(*self.calls)


def attempt(
    folder: Path, answer: bytes | None = OK, *, allowed: Sequence[str] = (), addresses: Sequence[str] = ("1.1.1.1",),
    absent: Sequence[str] = (), url: str = "http://receiver.test/hook?a=1", secret: str = "",
) -> Seen:  # fmt: skip
    """Tell a receiver once."""
    receiver = Receiver(answer, addresses, absent)

    async def go() -> str:
        with tempfile.TemporaryDirectory() as place:
            receiver.socket = f"{place}/s"
            async with await asyncio.start_unix_server(receiver.receive, receiver.socket):
                deliver = Delivery(Rules(tuple(allowed)), folder, ManualClock(), receiver.resolve, receiver.connect)
                said = await deliver(HookSpec(url=url, secret=secret), MESSAGE)
                await receiver.end()
                return said

    return Seen(asyncio.run(go()), receiver.requests, receiver.looked_up, receiver.connected)


def keep_secret(folder: Path, text: str = SECRET, name: str = "MINE") -> Path:
    (folder / name).write_text(f"{text}\n")
    (folder / name).chmod(0o600)
    return folder


# ---- what is sent


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example that the specification's own libraries are tested with."""
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    secret = base64.b64decode(SECRET.removeprefix("whsec_"))
    assert sign(secret, message, 1614265330) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_post_carries_event_and_signature(tmp_path: Path) -> None:
    """CloudEvents in structured mode: the media type and the event as it is; id, time and signature as headers."""
    seen = attempt(keep_secret(tmp_path), secret="MINE")
    head, _, body = seen.requests[0].partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert (seen.said, start, body) == ("", "POST /hook?a=1 HTTP/1.1", MESSAGE.body)
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["host"] == "receiver.test" and headers["content-length"] == str(len(body))
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (MESSAGE.id, "1700000000")
    assert headers["webhook-signature"] == sign(read_secret(tmp_path, "MINE"), MESSAGE, 1700000000)


def test_without_a_secret_nothing_is_signed(tmp_path: Path) -> None:
    """No header claims what nobody can check."""
    assert b"webhook-signature" not in attempt(tmp_path).requests[0]


def test_a_secret_that_is_gone_sends_nothing(tmp_path: Path) -> None:
    """Rather nothing than something unsigned."""
    seen = attempt(tmp_path, secret="MINE")
    assert "there is no secret 'MINE'" in seen.said and seen.requests == []


@pytest.mark.parametrize("text", ["hush", "whsec_", "whsec_!!!", f"whsec_{base64.b64encode(bytes(23)).decode()}", SECRET[6:]])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """Not long enough, not base64 or without its mark: the words say how one is made, and not what was found."""
    with pytest.raises(SpecError, match="one is made by: echo whsec_") as raised:
        read_secret(keep_secret(tmp_path, text), "MINE")
    assert "hush" not in str(raised.value)


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """A file of the home counts only if it is its owner's alone."""
    keep_secret(tmp_path)
    (tmp_path / "MINE").chmod(0o640)
    with pytest.raises(SpecError, match="may be read by others than the server's user; 'chmod 600' it"):
        read_secret(tmp_path, "MINE")


def test_a_secret_may_come_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a variable of its own prefix, and from no other: a spec names no variable of somebody else's."""
    monkeypatch.setenv("HEADGATE_SECRET_MINE", SECRET)
    assert len(read_secret(tmp_path, "MINE")) == 24
    monkeypatch.setenv("THEIRS", SECRET)
    with pytest.raises(SpecError, match=r"neither the file .*/THEIRS nor the variable HEADGATE_SECRET_THEIRS"):
        read_secret(tmp_path, "THEIRS")


# ---- what counts


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", ""),
        (b"HTTP/1.0 202 Accepted\r\n\r\n", ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "answered 503"),
        (b"HTTP/1.1 307 There\r\nlocation: http://169.254.169.254/\r\n\r\n", "answered 307"),
        (b"HTTP/1.1 20 Odd\r\n\r\n", "answered 20"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (b"", "the answer is not HTTP"),
        (b"HTTP/1.1 " + b"2" * 20000 + b"\r\n", "ValueError: "),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, ""),
    ],
)
def test_only_2xx_is_delivered(tmp_path: Path, answer: bytes, said: str) -> None:
    """A redirect is none, and is not followed; what is no answer is none either; a body, however long, says nothing."""
    seen = attempt(tmp_path, answer)
    assert seen.said.startswith(said) and bool(seen.said) == bool(said)
    assert len(seen.requests) == 1


def test_no_answer_is_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes the request and says nothing has failed."""
    monkeypatch.setattr(hook_delivery, "POST_SECONDS", 0.05)
    assert attempt(tmp_path, None).said == "no answer within 0.05 s"


def test_nobody_there_is_a_failure(tmp_path: Path) -> None:
    """A name without addresses, and addresses where nobody answers: each was tried."""
    assert "receiver.test has no address" in attempt(tmp_path, addresses=()).said
    both = ("1.1.1.1", "1.0.0.1")
    seen = attempt(tmp_path, addresses=both, absent=both)
    assert "ConnectionRefusedError: nobody at 1.0.0.1" in seen.said and len(seen.connected) == 2


def test_the_next_address_is_tried(tmp_path: Path) -> None:
    """One of a name's hosts may be down."""
    seen = attempt(tmp_path, addresses=("1.1.1.1", "1.0.0.1"), absent=("1.1.1.1",))
    assert seen.said == "" and [place[0] for place in seen.connected] == ["1.1.1.1", "1.0.0.1"]


# ---- where it must not lead


CLOSED = (
    "127.0.0.1 127.8.8.8 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 169.254.169.254 224.0.0.1 240.0.0.1 255.255.255.255 "
    "192.0.2.1 ::1 :: fe80::1 fe80::1%eth0 fd00::1 fd00:ec2::254 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 "
    "2002:7f00:1:: 2001:0:7f00:1:: ::127.0.0.1 2001:db8::1"
).split()


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_not_of_the_internet_is_not_called(tmp_path: Path, address: str) -> None:
    """This machine, private networks, links, metadata services, groups, and IPv6 that stands for them: nothing is sent."""
    assert not is_public(address)
    seen = attempt(tmp_path, addresses=(address,))
    assert f"receiver.test is {address}, which is no address of the internet" in seen.said
    assert "--hook-allow receiver.test" in seen.said and seen.connected == []


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_the_internet_is_open(address: str) -> None:
    """Public addresses are nobody's secret."""
    assert is_public(address) and refusal(place_of("https://x.example/"), [address], Rules()) == ""


def test_one_closed_address_spoils_all(tmp_path: Path) -> None:
    """A name that leads to both is refused, whichever would be tried first."""
    seen = attempt(tmp_path, addresses=("1.1.1.1", "127.0.0.1"))
    assert "receiver.test is 127.0.0.1" in seen.said and seen.requests == []


def test_the_address_that_was_checked_is_the_one_that_is_called(tmp_path: Path) -> None:
    """The name is looked up once, and what is called is an address: no second answer can lead elsewhere. TLS asks for the name."""
    seen = attempt(tmp_path, addresses=("1.1.1.1",))
    assert (seen.said, seen.looked_up, seen.connected) == ("", ["receiver.test"], [("1.1.1.1", 80, None)])
    secure = attempt(tmp_path, url="https://receiver.test:8443/", addresses=("1.1.1.1",))
    assert secure.connected == [("1.1.1.1", 8443, "receiver.test")]
    allowed = attempt(tmp_path, addresses=("127.0.0.1",), allowed=("receiver.test",))
    assert (allowed.said, allowed.connected) == ("", [("127.0.0.1", 80, None)])


def test_a_host_may_be_allowed_for_one_port(tmp_path: Path) -> None:
    """HOST allows all ports, HOST:PORT that one; whatever the case, also of addresses."""
    place = place_of("https://Receiver.Internal/x")
    cases = {"receiver.internal": True, "RECEIVER.internal:443": True, "receiver.internal:80": False, "internal": False}
    for allowed, open_ in cases.items():
        assert (refusal(place, ["10.0.0.1"], Rules((allowed,))) == "") is open_, allowed
    assert refusal(place_of("http://[::1]:9000/"), ["::1"], Rules(("[::1]:9000",))) == ""
    assert refusal(place_of("http://[::1]:9001/"), ["::1"], Rules(("[::1]:9000",))) != ""


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (HookSpec(url="http://127.0.0.1:9000/"), r"hooks\[0\]\.url: 127\.0\.0\.1 is .* --hook-allow 127\.0\.0\.1:9000; nothing was"),
        (HookSpec(url="http://localhost/"), r"hooks\[0\]\.url: localhost is 127\.0\.0\.1"),
        (HookSpec(url="http://[fe80::1]/"), r"hooks\[0\]\.url: fe80::1 is"),
        (HookSpec(command=("notify",)), r"hooks\[0\]\.command: this server runs no commands .* --hook-commands"),
        (HookSpec(url="https://a.example/", secret="NONE"), r"hooks\[0\]\.secret: there is no secret 'NONE'.*; nothing was changed"),
    ],
)  # fmt: skip
def test_what_could_never_work_is_refused_at_once(tmp_path: Path, hook: HookSpec, said: str) -> None:
    """Whoever asks for it hears so, with what the server's owner would have to do; he is not left to find it in a log."""
    with pytest.raises(SpecError, match=said):
        check_hooks([hook], Rules(), lambda name: read_secret(tmp_path, name))


def test_what_is_allowed_is_let_through(tmp_path: Path) -> None:
    """With the owner's word all of these are right."""
    hooks = [
        HookSpec(url="http://127.0.0.1:9000/", secret="MINE"),
        HookSpec(command=("notify",)),
        HookSpec(url="https://a.example/"),
    ]
    keep_secret(tmp_path)
    check_hooks(hooks, Rules(("127.0.0.1",), commands=True), lambda name: read_secret(tmp_path, name))


# ---- commands


def run(*command: str, commands: bool = True) -> str:
    deliver = Delivery(Rules(commands=commands), Path("/nowhere"), ManualClock())
    return asyncio.run(deliver(HookSpec(command=command), MESSAGE))


def test_a_command_gets_the_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its standard input, with its words as they are, no shell in between; and none of the server's secrets in its environment."""
    monkeypatch.setenv("HEADGATE_SECRET_MINE", SECRET)
    monkeypatch.setenv("HEADGATE_CONFIG", "{}")
    code = "import json, os, sys; json.dump([sys.stdin.read(), sys.argv[2:], sorted(os.environ)], open(sys.argv[1], 'w'))"
    assert run(sys.executable, "-c", code, str(tmp_path / "got"), "$HOME; `id`") == ""
    body, words, names = json.loads((tmp_path / "got").read_text())
    assert (body, words) == (MESSAGE.body.decode(), ["$HOME; `id`"])
    assert "PATH" in names and not [name for name in names if name.startswith(("HEADGATE_SECRET", "HEADGATE_CONFIG"))]


def test_a_command_inherits_nothing_open(tmp_path: Path) -> None:
    """No socket of the server is handed on: what it has open are its three standard files."""
    with open(tmp_path / "mine", "wb") as file:
        os.set_inheritable(file.fileno(), True)
        code = f"import os, sys; sys.exit(os.path.exists('/proc/self/fd/{file.fileno()}'))"
        assert run(sys.executable, "-c", code) == ""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("sh", "-c", "exit 3"), "sh ended with exit code 3"),
        (("no-such-program-anywhere",), "no-such-program-anywhere could not be started: "),
        (("true",), ""),  # it reads nothing of the event, and need not
    ],
)
def test_the_exit_code_decides(command: tuple[str, ...], said: str) -> None:
    """0 is a delivery, all else is none."""
    assert run(*command).startswith(said) and bool(run(*command)) == bool(said)


def test_a_command_has_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that does not end is killed with all it has started."""
    monkeypatch.setattr(hook_commands, "SECONDS", 0.3)
    said = run("sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid; wait")
    assert said == "sh did not end within 0.3 s and was killed"
    child = int((tmp_path / "pid").read_text())
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().split()[2] in "ZX"


def test_what_a_command_prints_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """The beginning goes to the log; a megabyte neither fills it nor blocks the command."""
    assert run(sys.executable, "-c", "print('x' * 1_000_000)") == ""
    said = capsys.readouterr().err
    assert "says: xxx" in said and len(said) < hook_commands.OUTPUT_BYTES + 200


def test_commands_are_off(tmp_path: Path) -> None:
    """Also those that an earlier server, which ran them, has let into the spec."""
    said = run("touch", str(tmp_path / "made"), commands=False)
    assert "--hook-commands" in said and not (tmp_path / "made").exists()
