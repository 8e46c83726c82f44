"""The listening sockets: bound once, before anything else happens, and handed down."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from typing import Any

from headgate.errors import Conflict, SpecError

BACKLOG = 4096
_SO_ATTACH_FILTER = 26
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


def deafen(listener: socket.socket) -> None:
    """Let nobody connect any more, and leave those who have to be accepted: `shutdown` alone would reset them.

    Whoever knocks is not heard, knocks again a second later, and is refused if the socket has been shut down by then.
    """
    import ctypes  # seldom needed, and not small

    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # a socket filter of one instruction: keep 0 bytes
    program = struct.pack("HP", 1, ctypes.addressof(drop))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


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
