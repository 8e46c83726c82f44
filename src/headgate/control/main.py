"""Control as a process: ``HEADGATE_CONFIG='{...}' python -m headgate.control.main``, see docs/architecture/processes.md."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import uvicorn
import uvloop

from headgate import plugins, streams
from headgate.clock import SystemClock
from headgate.control.access import Access
from headgate.control.api import build_app
from headgate.control.endpoints import Backend, Endpoints
from headgate.control.gateways import GatewayLink
from headgate.control.heads import ImpatientProtocol
from headgate.control.hook_delivery import Delivery
from headgate.control.hook_guard import Rules
from headgate.control.hooks import Hooks
from headgate.control.packages import StoredPackages
from headgate.control.reconcile import Reconciler, Setting, World
from headgate.control.routing import Machine
from headgate.control.store import Store
from headgate.home import Home
from headgate.registry.access import registry_of
from headgate.registry.registry import Registry

TICK_SECONDS = 1.0
"""Between ticks when nothing happens."""
_END_SECONDS = 3
"""For answers that are under way when control is told to end; followers of logs are cut."""


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor hands down."""

    home: str
    listener: int
    """Descriptor of the listening socket."""
    tls_cert: str | None = None
    tls_key: str | None = None
    hosts: tuple[str, ...] = ()
    require_key: bool = False
    inference_url: str = ""
    default_deployment: str | None = None
    model_control: str = "none"
    """``explicit``: clients with the scope admin may load and unload models."""
    hook_allow: tuple[str, ...] = ()
    """Hosts that hooks may lead to although they are not of the internet."""
    hook_commands: bool = False
    """Whether hooks may run commands."""


class Control:
    """Everything of the control plane, put together."""

    def __init__(self, config: ControlConfig, registry: Registry) -> None:
        home, clock = Home(config.home), SystemClock()
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._link = GatewayLink(home.gateway_socket, self._changed.set)
        self._packages = StoredPackages(home, registry.store, self._wake)
        # One thread for all ticks and changes: they come one after the other, and the database is the only one who is asked to wait.
        self._ticks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tick")
        store = Store(registry.database, clock)
        world = World(store, registry, self._packages, plugins.load("headgate.executors", "local")(home), self._link, clock)
        machine = Machine(cores=len(os.sched_getaffinity(0)), python=sys.executable)
        setting = Setting(machine, home.routes, config.default_deployment, config.model_control == "explicit")
        self._reconciler = Reconciler(world, setting)
        rules = Rules(config.hook_allow, config.hook_commands)
        draw = random.Random().random  # noqa: S311  (it spreads attempts, it keeps no secret)
        self._hooks = Hooks(store, Delivery(rules, home.secrets, clock), clock, draw)
        backend = Backend(
            home=home,
            store=store,
            registry=registry,
            reconciler=self._reconciler,
            ticks=self._ticks,
            inference_url=config.inference_url,
            default_deployment=config.default_deployment,
            require_key=config.require_key,
            hooks=rules,
        )
        hosts = frozenset(name.lower() for name in config.hosts)
        self.app = build_app(Endpoints(backend), Access(hosts, config.require_key, lambda: self._reconciler.keys))

    async def run(self) -> None:
        """Serve and reconcile until SIGTERM."""
        tasks = [asyncio.create_task(self._link.run())]
        server = uvicorn.Server(self._settings())
        # uvicorn hears SIGTERM while it serves, and afterwards sends it again to whoever heard it before.
        signal.signal(signal.SIGTERM, lambda *_: server.handle_exit(signal.SIGTERM, None))
        try:
            # Whoever connects meanwhile waits in the listening socket, and is answered by somebody who knows keys and deployments.
            await self._tick()
            tasks += [asyncio.create_task(self._reconcile()), asyncio.create_task(self._hooks.run())]
            await server.serve(sockets=[socket.socket(fileno=self._config.listener)])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._packages.close()
            self._ticks.shutdown()

    def _wake(self) -> None:
        """From a thread of the packages: look again."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._changed.set)

    async def _reconcile(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            await self._tick()

    async def _tick(self) -> None:
        await self._loop.run_in_executor(self._ticks, self._reconciler.try_tick)

    def _settings(self) -> uvicorn.Config:
        return uvicorn.Config(
            self.app,
            http=ImpatientProtocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_END_SECONDS,
            ssl_certfile=self._config.tls_cert,
            ssl_keyfile=self._config.tls_key,
        )


async def run(config: ControlConfig, registry: Registry) -> None:
    """Run control until it is told to end."""
    await Control(config, registry).run()


def main() -> int:
    """Run control as ``HEADGATE_CONFIG`` says."""
    streams.never_fail()
    config = msgspec.json.decode(os.environ["HEADGATE_CONFIG"], type=ControlConfig)
    with registry_of(Home(config.home)) as registry, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(config, registry))
    return 0


if __name__ == "__main__":
    sys.exit(main())
