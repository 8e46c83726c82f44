"""One attempt to tell a hook of an event: a signed POST to a checked address, or a command. Never raises; says why it did not work.

Source of the headers: Standard Webhooks 1.0 (standardwebhooks.com). Source of the media type: CloudEvents 1.0, JSON format and HTTP
binding in structured mode.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hashlib
import hmac
import os
import ssl
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import headgate
from headgate.clock import Clock
from headgate.control import hook_commands
from headgate.control.hook_guard import Place, Rules, place_of, refusal
from headgate.errors import SpecError
from headgate.spec import HookSpec

POST_SECONDS = 15.0
"""From looking up the name to the status of the answer."""
BODY_BYTES = 8192
"""Of an answer, that are read and thrown away."""
_SECRET_BYTES = range(24, 65)
_LINE_BYTES = 8192
_VARIABLE = "HEADGATE_SECRET_"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str, int, str | None], Awaitable[Streams]]
"""Address, port and, for TLS, the name that the certificate must have, to a connection. Raises `OSError`."""
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to the addresses it has now."""


class Message(NamedTuple):
    """A CloudEvent, ready to be sent."""

    id: str
    """The same whenever it is sent again."""
    body: bytes


def sign(secret: bytes, message: Message, timestamp: int) -> str:
    """Return the header ``webhook-signature`` of a message that is sent at ``timestamp``, in seconds since the epoch."""
    signed = b".".join((message.id.encode(), str(timestamp).encode(), message.body))
    return f"v1,{base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()}"


def read_secret(folder: Path, name: str) -> bytes:
    """Return the secret of a name: of the file in ``folder``, else of the variable ``HEADGATE_SECRET_<name>``.

    Raises `SpecError` if there is none, if others may read the file, or if it is not ``whsec_`` and base64 of 24 to 64 bytes.
    """
    try:
        with open(folder / name, "rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
                raise SpecError(f"{file.name} may be read by others than the server's user; 'chmod 600' it")
            text = file.read(1024).decode(errors="replace").strip()
    except FileNotFoundError:
        text = os.environ.get(_VARIABLE + name, "")
    except OSError as error:
        raise SpecError(f"{folder / name} cannot be read ({error.strerror})") from None
    if not text:
        raise SpecError(f"there is no secret {name!r}: neither the file {folder / name} nor the variable {_VARIABLE}{name}")
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True) if text.startswith("whsec_") else b""
    except binascii.Error:
        secret = b""
    if len(secret) not in _SECRET_BYTES:
        raise SpecError(
            f"the secret {name!r} is not 'whsec_' and the base64 of 24 to 64 bytes; one is made by: echo whsec_$(openssl rand -base64 32)"
        )
    return secret


async def addresses_of(host: str, port: int) -> list[str]:
    """Return the addresses that a name has now, in the order in which they are to be tried."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)  # SOCK_STREAM
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def connect_to(address: str, port: int, name: str | None) -> Streams:
    """Connect to an address."""
    tls = _tls() if name is not None else None
    return await asyncio.open_connection(address, port, limit=_LINE_BYTES, ssl=tls, server_hostname=name)


@functools.cache
def _tls() -> ssl.SSLContext:
    """The authorities this machine trusts; reading them takes too long for every call."""
    return ssl.create_default_context()


class Delivery:
    """Tells hooks of events, as the server's owner allows."""

    def __init__(
        self, rules: Rules, secrets: Path, clock: Clock, resolve: Resolve = addresses_of, connect: Connect = connect_to
    ) -> None:
        self._rules = rules
        self._secrets = secrets
        self._clock = clock
        self._resolve = resolve
        self._connect = connect

    async def __call__(self, hook: HookSpec, message: Message) -> str:
        """Tell ``hook`` of it once. Returns why that did not work; empty if it did."""
        if hook.url is None:
            return await self._run(hook.command, message)
        try:
            async with asyncio.timeout(POST_SECONDS):
                return await self._post(place_of(hook.url), hook, message)
        except TimeoutError:
            return f"no answer within {POST_SECONDS:g} s"
        except SpecError as error:
            return str(error)
        except (OSError, EOFError, ValueError) as error:  # ValueError: an endless line of an answer, a name that is none
            return f"{type(error).__name__}: {error}"

    async def _post(self, place: Place, hook: HookSpec, message: Message) -> str:
        timestamp = int(self._clock.wall())
        headers = {
            "host": place.netloc,
            "user-agent": f"headgate/{headgate.__version__}",
            "content-type": "application/cloudevents+json; charset=utf-8",
            "content-length": str(len(message.body)),
            "connection": "close",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
        }
        if hook.secret:
            headers["webhook-signature"] = sign(read_secret(self._secrets, hook.secret), message, timestamp)
        addresses = await self._resolve(place.host, place.port)
        if said := refusal(place, addresses, self._rules):
            return said
        reader, writer = await self._reach(place, addresses)
        try:
            lines = [f"POST {place.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            writer.write("\r\n".join(lines).encode("ascii") + message.body)
            await writer.drain()
            return await _verdict(reader)
        finally:
            writer.transport.abort()

    async def _reach(self, place: Place, addresses: list[str]) -> Streams:
        """Connect to one of the addresses that were checked: the name is not looked up again, it might lead elsewhere by then."""
        last: OSError | None = None
        for address in addresses:
            try:
                return await self._connect(address, place.port, place.host if place.secure else None)
            except OSError as error:
                last = error
        raise last or OSError(f"{place.host} has no address")

    async def _run(self, command: tuple[str, ...], message: Message) -> str:
        if not self._rules.commands:
            return "this server runs no commands; it does if it is started with --hook-commands"
        hidden = ("HEADGATE_CONFIG", _VARIABLE)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        return await hook_commands.run(command, message.body, environment)


async def _verdict(reader: asyncio.StreamReader) -> str:
    """Return what an answer means: 2xx is a delivery, all else is none; a redirect is not followed. Its body says nothing."""
    words = (await reader.readline()).decode("latin-1").split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
        return "the answer is not HTTP"
    with suppress(OSError, EOFError):
        # Whoever answers may finish, within reason, before the connection goes.
        async with asyncio.timeout(1.0):
            await reader.readexactly(BODY_BYTES)
    return "" if len(words[1]) == 3 and words[1][0] == "2" else f"answered {words[1]}"
