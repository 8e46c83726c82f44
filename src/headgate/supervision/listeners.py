"""The listening sockets: bound once, before anything else happens, and handed down."""

from __future__ import annotations

import errno
import math
import socket
import struct
from contextlib import suppress
from typing import Any

from headgate.errors import Conflict, SpecError

BACKLOG = 4096
LAST_IN = 0.25
"""Seconds for those whose knock was answered to come in, over however long a line, before the port is shut."""
LAST_ACCEPT = 2.0
"""Seconds for the gateway to accept them, where it is slow; see also `headgate.serving.drain`."""
_LOOK_AGAIN = 0.02
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""A socket filter: load byte 13 of the TCP header; if the bit SYN is set, keep 0 bytes of the segment; else keep all.

It must let the rest pass. A client whose SYN was answered takes itself for connected; were the end of its handshake dropped, its
request would be as well, until the shut port resets it. And the socket of such a client inherits the filter.
"""
_ACCEPT_QUEUE = 24
"""Where a listener's ``tcp_info`` has the number of clients that are connected and not accepted: ``tcpi_unacked``."""
Address = tuple[socket.AddressFamily, Any]
"""A family and an address as `socket.socket.bind` takes it."""


def resolve(host: str, port: int, option: str) -> Address:
    """Return the address to bind for ``host``; an empty one means every interface. ``option`` names the setting in errors."""
    if not 0 <= port <= 65535:
        raise SpecError(f"--{option} {port} is not a port; nothing was started. Give one from 1 to 65535, or 0 for any free one")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise SpecError(
            f"the host {host!r} is not known here ({error}); nothing was started. Give an address of this machine"
        ) from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def is_loopback(address: Address) -> bool:
    """Tell whether only this machine can reach an address."""
    host = str(address[1][0])
    return host == "::1" or host.startswith("127.")


def listen(address: Address, option: str) -> socket.socket:
    """Bind and listen. Raises `Conflict` if the port is taken, `SpecError` if the address cannot be had."""
    family, (host, port, *_) = address
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address[1])
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explained(error, host, port, option) from error
    return listener


class Door:
    """The end of listening for good. As long as somebody holds the socket, the kernel lets clients in, and they would wait for nobody.

    It is shut in two steps, because `shutdown` resets those who have connected and are not accepted yet: first no knock is heard; then,
    when the last have been let in, every knock is refused. Who knocks between the two knocks again a second later.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._deafen_at = self._refuse_at = self._latest = math.inf

    @property
    def deadline(self) -> float:
        """When `turn` has something to do."""
        return min(self._deafen_at, self._refuse_at)

    def close(self, at: float) -> None:
        """Begin to shut at the time ``at``."""
        self._deafen_at = at

    def turn(self, now: float) -> None:
        """Do what is due."""
        if now >= self._deafen_at:
            self._deafen_at, self._refuse_at, self._latest = math.inf, now + LAST_IN, now + LAST_ACCEPT
            _deafen(self._listener)
        elif now >= self._refuse_at and now < self._latest and _waiting(self._listener):
            self._refuse_at = now + _LOOK_AGAIN
        elif now >= self._refuse_at:
            self._refuse_at = math.inf
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)


def _deafen(listener: socket.socket) -> None:
    import ctypes  # seldom needed, and not small

    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _NO_SYN))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), ctypes.addressof(program)))


def _waiting(listener: socket.socket) -> int:
    """Return how many have connected and are not accepted."""
    number: int = struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), _ACCEPT_QUEUE)[0]
    return number


def hear(listener: socket.socket) -> None:
    """Undo what a supervisor that was killed in the middle of shutting its door may have left."""
    with suppress(OSError):  # there is no filter
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def url(listener: socket.socket, secure: bool) -> str:
    """Return the URL under which this machine reaches a listener."""
    host, port, *_ = listener.getsockname()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not bound)
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _explained(error: OSError, host: str, port: int, option: str) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"port {port} on {host} is taken by another program; nothing was started. "
            f"Choose another with --{option} N, or --{option} 0 for any free one"
        )
    if error.errno == errno.EACCES:
        return SpecError(f"port {port} may not be used by this user; nothing was started. Choose one above 1023 with --{option} N")
    return SpecError(
        f"cannot listen on {host} port {port} ({error.strerror}); nothing was started. Choose another host or --{option}"
    )
