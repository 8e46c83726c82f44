"""How a gateway ends without losing a request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from headgate.serving.gateway import TICK_SECONDS, Gateway

PORT_SECONDS = 2.0
"""Beyond the delay of a drain: how long the port may take to be shut. Nobody shuts it where another gateway follows."""
LAST_CALL_SECONDS = 1.0
"""For whoever is connected when the port is shut, perhaps only just, to say what he wants."""
PARTING_SECONDS = 0.25
"""At the very end, for answers to leave and clients to see that the connection is over."""


async def drain(gateway: Gateway, delay: float, limit: float, listener: socket.socket, stop_listening: Callable[[], None]) -> None:
    """Be unready at once and say ``connection: close`` with every answer; return once nothing is in flight.

    For ``delay`` seconds, and until the supervisor has shut the port of ``listener``, new clients are accepted: if the gateway
    stopped first, the kernel would let in some whom nobody hears. From then on what is in flight has at most ``limit`` seconds.
    """
    gateway.begin_drain()
    gateway.catalogue.mirrors.stop()
    await asyncio.sleep(delay)
    await _until(gateway.now, lambda: not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), PORT_SECONDS)
    stop_listening()
    await _until(gateway.now, lambda: not gateway.connections, LAST_CALL_SECONDS)
    for connection in list(gateway.connections):
        connection.drain()
    revisions = gateway.catalogue.revisions
    await _until(gateway.now, lambda: not any(revision.inflight for revision in revisions.values()), limit)
    for revision in revisions.values():
        revision.give_up("the server is shutting down, and this request took longer than it waits; retry elsewhere")
    await _until(gateway.now, lambda: not gateway.connections, PARTING_SECONDS)


async def _until(now: Callable[[], float], condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition. The last thing is a turn of the loop, so that even after a stall what has arrived by then is heard."""
    end = now() + seconds
    late = False
    while not late:
        late = now() >= end
        await asyncio.sleep(TICK_SECONDS)
        if condition():
            return
