"""The end of listening, on a port of the kernel's; its times are given."""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Iterator

import pytest

from headgate.supervision import listeners
from headgate.supervision.listeners import LAST_ACCEPT, LAST_IN, Door

SECONDS = 10.0


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """A listener on loopback, which does not wait."""
    with listeners.listen(listeners.resolve("127.0.0.1", 0, "port"), "port") as listener:
        listener.setblocking(False)
        yield listener


def deaf(listener: socket.socket) -> Door:
    """Return a door whose first step was taken at the time 0."""
    door = Door(listener)
    door.close(at=0.0)
    door.turn(0.0)
    return door


def let_in(listener: socket.socket) -> socket.socket:
    """Return a client that is connected, and not accepted."""
    return socket.create_connection(listener.getsockname(), timeout=SECONDS)


def is_open(listener: socket.socket) -> bool:
    """Whether the kernel still lets clients in."""
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def test_between_the_steps_nobody_is_let_in(port: socket.socket) -> None:
    """Who knocks gets no answer, neither entrance nor refusal: the kernel knocks again, which `hear` allows."""
    deaf(port)
    with socket.socket() as late:
        late.setblocking(False)
        assert late.connect_ex(port.getsockname()) == errno.EINPROGRESS
        with pytest.raises(BlockingIOError):
            port.accept()
        assert late.connect_ex(port.getsockname()) == errno.EALREADY
    listeners.hear(port)
    let_in(port).close()


def test_who_was_answered_before_the_first_step_comes_in_after_it(port: socket.socket) -> None:
    """A client takes itself for connected when its SYN is answered. What it sends from then on arrives, whatever the door does: the last
    segment of its handshake at the listener, its request at the socket that was made of it."""
    port.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)  # the kernel waits for the first byte to end the handshake
    with let_in(port) as client:
        with pytest.raises(BlockingIOError):
            port.accept()
        deaf(port)
        client.sendall(b"one")
        accepted, _ = port.accept()
        with accepted:
            accepted.settimeout(SECONDS)
            client.sendall(b" two")
            client.shutdown(socket.SHUT_WR)
            assert accepted.makefile("rb").read() == b"one two"


def test_the_port_is_shut_when_the_last_have_been_accepted(port: socket.socket) -> None:
    """Shutting resets whoever is connected and not accepted, so a slow gateway is waited for; then everybody is refused, at once."""
    with let_in(port) as client:
        door = deaf(port)
        door.turn(LAST_IN)
        assert is_open(port)
        accepted, _ = port.accept()
        door.turn(door.deadline)
        assert not is_open(port)
        assert door.deadline == math.inf
        with accepted:
            accepted.sendall(b"served")
            assert client.recv(6) == b"served"
    with pytest.raises(ConnectionRefusedError):
        let_in(port)


def test_a_gateway_that_accepts_nobody_is_not_waited_for_without_end(port: socket.socket) -> None:
    """After `LAST_ACCEPT` seconds the port is shut all the same."""
    with let_in(port) as client:
        door = deaf(port)
        door.turn(LAST_ACCEPT - 0.01)
        assert is_open(port)
        assert door.deadline < LAST_ACCEPT + 0.1
        door.turn(door.deadline)
        assert not is_open(port)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
