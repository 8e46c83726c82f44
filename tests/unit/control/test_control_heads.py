"""Connections to the control port that never become requests: closed in time, whatever they send, and nobody else is."""

from __future__ import annotations

from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from headgate.control.heads import HEAD_SECONDS, ImpatientProtocol

HEAD = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


class Timer:
    """A call that is due."""

    def __init__(self, at: float, call: Any) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Done:
    """A task that has ended."""

    def add_done_callback(self, call: Any) -> None:
        pass


class Loop:
    """An event loop on paper: time passes when it is told to, tasks run to their end at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def call_later(self, seconds: float, call: Any, *args: Any) -> Timer:
        self.timers.append(Timer(self.now + seconds, lambda: call(*args)))
        return self.timers[-1]

    def create_task(self, work: Any, **_: Any) -> Any:
        with pytest.raises(StopIteration):
            work.send(None)
        return Done()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            timer.call()


class Transport:
    """One connection's other end, as far as it is looked at."""

    def __init__(self) -> None:
        self.closed = False
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None

    def resume_reading(self) -> None:
        pass


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@pytest.fixture
def connected() -> tuple[ImpatientProtocol, Transport, Loop]:
    config = uvicorn.Config(_hello, lifespan="off", ws="none", log_config=None, timeout_keep_alive=5)
    loop, transport = Loop(), Transport()
    protocol = ImpatientProtocol(config, ServerState(), {}, loop)  # type: ignore[arg-type]
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return protocol, transport, loop


@pytest.mark.parametrize("every", [b"", b"G", HEAD])
def test_a_head_that_does_not_come_ends_the_connection(connected, every):
    """Nothing at all, or a byte a second: after ten seconds it is closed. A whole head is answered, and its connection stays."""
    protocol, transport, loop = connected
    for at in range(int(HEAD_SECONDS)):
        assert not transport.closed
        if every:
            protocol.data_received(HEAD if every is HEAD else HEAD[at : at + 1])
        loop.advance(1.0)
    assert transport.closed is (every is not HEAD)
    assert transport.sent.count(b"200 OK") == (HEAD_SECONDS if every is HEAD else 0)


@pytest.mark.parametrize("byte", [b"G", b"\n"])
def test_a_later_head_has_no_longer(connected, byte):
    """The time runs from its first byte on, also where that is an empty line."""
    protocol, transport, loop = connected
    protocol.data_received(HEAD)
    loop.advance(4.0)
    protocol.data_received(byte)
    loop.advance(6.0)
    protocol.data_received(b"\n" if byte == b"\n" else b"E")
    assert not transport.closed
    loop.advance(4.0)
    assert transport.closed


def test_an_idle_connection_is_closed_as_before(connected):
    """What uvicorn does between two requests is left to it."""
    protocol, transport, loop = connected
    protocol.data_received(HEAD)
    loop.advance(4.9)
    assert not transport.closed
    loop.advance(0.1)
    assert transport.closed


def test_a_connection_that_has_gone_is_not_waited_for(connected):
    """Nothing is left that would keep it in memory."""
    protocol, _, loop = connected
    protocol.connection_lost(None)
    assert [timer for timer in loop.timers if not timer.cancelled] == []
