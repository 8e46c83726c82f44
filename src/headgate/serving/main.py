"""The gateway process: ``python -m headgate.serving.main``, started by the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import ssl
from typing import Any

import msgspec
import uvloop

from headgate import streams
from headgate.clock import SystemClock
from headgate.home import Home
from headgate.serving.drain import drain
from headgate.serving.endpoints import Endpoints
from headgate.serving.gateway import Gateway
from headgate.serving.limit import Limits
from headgate.serving.replicas import Peer
from headgate.serving.wire.http1 import HttpConnection


class GatewayConfig(msgspec.Struct, kw_only=True):
    """``HEADGATE_CONFIG`` of a gateway; see docs/architecture/processes.md."""

    home: str
    id: str
    listener: int
    tls_cert: str | None = None
    tls_key: str | None = None
    hosts: list[str] = []
    require_key: bool = False
    access_log: bool = False
    model_control: str = "none"
    """``explicit``: clients with the scope admin may load and unload models."""
    limits: Limits = Limits()
    drain_delay: float = 5.0
    drain_limit: float = 30.0


async def run(config: GatewayConfig) -> None:
    """Serve until SIGTERM, then drain."""
    home = Home(config.home)
    loop = asyncio.get_running_loop()
    explicit = config.model_control == "explicit"
    endpoints = Endpoints(config.hosts, require_key=config.require_key, guard_admin=explicit)
    options = {"access_log": config.access_log, "model_control": explicit}
    gateway = Gateway(config.id, home, endpoints, config.limits, SystemClock(), **options)
    gateway.loop = loop
    gateway.listener_fd = config.listener
    gateway.load_table()
    links = await _listen_for_peers(loop, gateway, home)
    listener = socket.socket(fileno=config.listener)
    listener.setblocking(False)
    # A copy: the server closes its own when it stops listening, and an adopting supervisor may ask for ours at any time.
    server = await loop.create_server(lambda: HttpConnection(gateway), sock=listener.dup(), backlog=4096, ssl=_tls(config))
    gateway.tick()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, _set, ended)
    gateway.log("listening", f"{config.id} listens", fd=config.listener)
    _quiet_collector()
    await ended
    await drain(gateway, config.drain_delay, config.drain_limit, listener, server.close)
    links.close()
    listener.close()


def main() -> int:
    """Run a gateway as ``HEADGATE_CONFIG`` says."""
    streams.never_fail()
    config: Any = json.loads(os.environ["HEADGATE_CONFIG"])
    uvloop.run(run(msgspec.convert(config, GatewayConfig)))
    return 0


async def _listen_for_peers(loop: asyncio.AbstractEventLoop, gateway: Gateway, home: Home) -> asyncio.AbstractServer:
    path = home.gateway_socket
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    before = os.umask(0o177)
    try:
        return await loop.create_unix_server(lambda: Peer(gateway), path=str(path), backlog=256)
    finally:
        os.umask(before)


def _set(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _tls(config: GatewayConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


def _quiet_collector() -> None:
    """Requests make no cycles; what is there at the start stays. So the cyclic collector runs seldom, and over little."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


if __name__ == "__main__":
    raise SystemExit(main())
