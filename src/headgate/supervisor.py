"""The root process of a server: opens the ports, starts everything else, and keeps it as desired.json says.

It takes part in no request. If it is killed, gateway, control and replicas go on, and the next one takes them over; see
docs/architecture/processes.md for the files, sockets and signals it keeps. Linux only (pidfd).
"""

from __future__ import annotations

import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from enum import Enum
from functools import partial
from typing import Any

from headgate.home import Home, check_room
from headgate.supervision import adoption, files, listeners, options, policy, processes
from headgate.supervision.child import Child
from headgate.supervision.options import CONTROL, DEPLOYER, GATEWAY, ServeOptions
from headgate.supervision.processes import ProcessSpec
from headgate.supervision.signals import Signals

__all__ = ["ServeOptions", "run"]

TICK = 1.0
"""Seconds between looks at memory, logs and desired.json; everything else wakes us."""
ECHO = 0.25
"""Seconds after a signal in which another is taken for the same one, passed on by a wrapper that got it too."""
UNKILLABLE = 5.0
"""Seconds after SIGKILL from which we do not wait for a process any more: it hangs in the kernel."""


def run(wanted: ServeOptions) -> int:
    """Serve until a signal ends it, and return the exit code: 0 after a drain, 128 + signal after a second one.

    Raises `Conflict` if the home has a server or a port is taken, `SpecError` on settings that cannot be served, `StorageFull`; then
    nothing was started. Main thread only, and it owns every child of the process.
    """
    inference, control = options.check(wanted)
    home = Home(wanted.home).create()
    with files.locked(home), Signals() as signals:
        check_room(home.path)
        return Supervisor(home, files.remembered(home, wanted), signals).run(inference, control)


class Phase(Enum):
    """SERVING -> DRAINING (the gateway finishes) -> STOPPING (the others end)."""

    SERVING = 1
    DRAINING = 2
    STOPPING = 3


class Supervisor:
    """The children of one server and the loop that watches them."""

    def __init__(self, home: Home, wanted: ServeOptions, signals: Signals) -> None:
        self._home = home
        self._options = wanted
        self._signals = signals
        self._children: dict[str, Child] = {}
        self._desired = files.Desired(home.desired, say)
        self._selector = selectors.DefaultSelector()
        self._phase = Phase.SERVING
        self._door: listeners.Door
        self._signalled = 0.0
        self._exit = 0
        self._tick_at = 0.0
        self._changed = True

    def run(self, inference: listeners.Address, control: listeners.Address) -> int:
        """Open, take over what is left of an earlier server, serve, drain, and clear up."""
        with ExitStack() as opened:
            opened.enter_context(self._selector)
            legacy = adoption.inherit(self._home, inference)
            listener = opened.enter_context(legacy.listener or listeners.listen(inference, "port"))
            control_listener = opened.enter_context(listeners.listen(control, "control-port"))
            bell = opened.enter_context(files.bell(self._home.supervisor_socket))
            self._watch(self._signals, self._on_signal)
            self._watch(bell, partial(self._on_bell, bell))
            self._appoint(listener, control_listener)
            self._take_over(legacy)
            self._loop()
        files.clear(self._home)
        return self._exit

    # ---- the processes there should be

    def _appoint(self, listener: socket.socket, control_listener: socket.socket) -> None:
        """Write down where the server is, and which processes it always has; the first turn of the loop starts them."""
        wanted, home = self._options, str(self._home.path)
        url = listeners.url(listener, wanted.secure)
        control_url = listeners.url(control_listener, wanted.secure)
        files.replace(self._home.server, files.identity() | options.server(wanted, url, control_url))
        self._door = listeners.Door(listener)
        self._add(options.gateway(wanted, home, listener.fileno()))
        self._add(options.control(wanted, home, control_listener.fileno(), url))
        if wanted.deploy_argv is not None:
            self._children[DEPLOYER] = Child(ProcessSpec(DEPLOYER, wanted.deploy_argv), log=None, wanted=False)

    def _take_over(self, legacy: adoption.Legacy) -> None:
        """Watch survivors as if they were ours; those that desired.json does not name are ended by the first look at it."""
        if legacy.gateway and legacy.listener:
            self._adopt(legacy.gateway)
            self._compare(legacy.gateway, legacy.listener)
        self._desired.look()
        for replica in legacy.replicas:
            self._add(self._desired.specs.get(replica.id, ProcessSpec(replica.id, ())))
            self._adopt(replica)
        self._follow()
        if names := [one.id for one in (legacy.gateway, *legacy.replicas) if one]:
            say(f"took over from an earlier server: {', '.join(names)}")

    def _compare(self, gateway: adoption.Survivor, listener: socket.socket) -> None:
        """Say where the gateway in place is not the one asked for, and replace it where that takes more than a word."""
        port = listener.getsockname()[1]
        if self._options.port not in (0, port):
            say(
                f"port {self._options.port} was asked for, but the gateway in place keeps {port}; end the server first to change it"
            )
        child = self._children[GATEWAY]
        asked = adoption.parsed(child.spec.env["HEADGATE_CONFIG"].encode())
        if changed := policy.differences(adoption.configuration(gateway), asked):
            say(f"{GATEWAY} was started with other settings ({', '.join(changed)}); it is drained and started again with these")
            child.ask_to_end(time.monotonic(), child.spec.grace)

    def _follow(self) -> None:
        """Make the replicas those of desired.json. A missing or broken file changes nothing: what runs stays."""
        if self._phase is not Phase.SERVING:
            return
        self._desired.look()
        now, specs = time.monotonic(), self._desired.specs
        for name in self._children.keys() - specs.keys() - {CONTROL, GATEWAY, DEPLOYER}:
            self._dismiss(self._children[name], now)
        for name, spec in specs.items():
            child = self._children.get(name)
            if child is None:
                self._add(spec)
            elif child.wanted and child.spec != spec:
                self._renew(child, spec, now)

    def _add(self, spec: ProcessSpec) -> None:
        self._children[spec.id] = Child(spec, self._home.log(spec.id))
        self._changed = True

    def _adopt(self, survivor: adoption.Survivor) -> None:
        child = self._children[survivor.id]
        child.adopt(survivor)
        self._watch(child.pidfd, partial(self._ended, child))

    def _renew(self, child: Child, spec: ProcessSpec, now: float) -> None:
        """Give a child another command or environment: the home, or an interpreter, has moved."""
        if child.running:
            child.spec = spec
            child.ask_to_end(now, spec.grace)
            say(f"{spec.id} is to run with another command or environment; it is drained and started again with it")
        else:
            self._add(spec)

    def _dismiss(self, child: Child, now: float) -> None:
        """End a child for good; its entry goes when it has ended."""
        child.wanted = False
        if child.running:
            child.ask_to_end(now, child.spec.grace)
        else:
            self._forget(child)
        self._changed = True

    def _forget(self, child: Child) -> None:
        del self._children[child.spec.id]
        self._changed = True

    # ---- the loop

    def _loop(self) -> None:
        while not self._over(now := time.monotonic()):
            deadlines = [child.deadline for child in self._children.values() if child.deadline is not None]
            for key, _ in self._selector.select(max(0.0, min([self._tick_at, self._door.deadline, *deadlines]) - now)):
                key.data()
            self._turn(time.monotonic())

    def _turn(self, now: float) -> None:
        """Do what is due."""
        if now >= self._tick_at:
            self._tick_at = now + TICK
            self._measure()
            self._follow()
        for child in list(self._children.values()):
            if child.deadline is not None and now >= child.deadline:
                if child.running:
                    say(f"{child.spec.id} did not end in time and is killed")
                    child.kill(now)
                else:
                    self._start(child, now)
        self._advance(now)
        if self._changed:
            self._write_observed()

    def _measure(self) -> None:
        for child in self._children.values():
            size = child.measure()
            if policy.moved(child.rss, size):
                child.rss = size
                self._changed = True
        processes.reap_strangers({child.pid for child in self._children.values() if child.pid is not None})

    def _start(self, child: Child, now: float) -> None:
        if child.start(now):
            self._watch(child.pidfd, partial(self._ended, child))
        elif child.wanted:
            say(f"{child.spec.id} {child.exit}; tried again in {child.delay:g} s")
        else:
            self._lose(child)
        self._changed = True

    def _ended(self, child: Child) -> None:
        self._selector.unregister(child.pidfd)
        asked = child.asked
        child.ended(time.monotonic())
        self._changed = True
        if not child.wanted:
            self._lose(child, asked)
        elif not asked:
            say(f"{child.spec.id} ended ({child.exit}); started again in {child.delay:g} s; log: {child.log}")

    def _lose(self, child: Child, asked: bool = False) -> None:
        """Let a child go that is not started again."""
        self._forget(child)
        if child.spec.id == DEPLOYER and not asked:
            self._deployed(child)
        elif not asked:
            say(f"{child.spec.id} ended ({child.exit}) while the server ends; log: {child.log}")
        self._follow()

    def _deployed(self, deployer: Child) -> None:
        if deployer.code == 0 or self._phase is not Phase.SERVING:
            return
        if self._options.end_on_deploy_failure:
            self._exit = max(1, deployer.code or 1)
            self._drain(time.monotonic())
        else:
            say(f"deploying failed ({deployer.exit}); the server goes on with what was deployed before")

    def _write_observed(self) -> None:
        """Tell what is the case. If the disk is full, readers see an old truth and serving goes on; the next turn tries again."""
        report = {name: child.report() for name, child in self._children.items() if name != DEPLOYER}
        with suppress(OSError):
            files.replace(self._home.observed, {"supervisor": files.identity(), "processes": report})
            self._changed = False

    # ---- signals and the end

    def _on_bell(self, bell: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                bell.recv(64)
        self._follow()

    def _on_signal(self) -> None:
        now = time.monotonic()
        for number in self._signals.take():
            if number == signal.SIGHUP:
                self._follow()
            elif self._phase is Phase.SERVING:
                self._signalled = now
                self._drain(now)
            elif now - self._signalled >= ECHO:
                self._end_at_once(now, 128 + number)

    def _drain(self, now: float) -> None:
        """Have the gateway finish what it has; until then the others are there for it, and nothing is started again."""
        say(f"draining: requests under way have {self._options.drain_limit:g} s to finish; another signal ends everything at once")
        self._phase = Phase.DRAINING
        self._door.close(now + self._options.drain_delay)
        for child in list(self._children.values()):
            if not child.running or child.spec.id in (GATEWAY, DEPLOYER):
                self._dismiss(child, now)
            child.wanted = False

    def _advance(self, now: float) -> None:
        self._door.turn(now)
        gateway = self._children.get(GATEWAY)
        if self._phase is Phase.DRAINING and (gateway is None or _given_up(gateway, now)):
            self._phase = Phase.STOPPING
            for child in list(self._children.values()):
                self._dismiss(child, now)

    def _end_at_once(self, now: float, code: int) -> None:
        self._phase, self._exit = Phase.STOPPING, code
        for child in self._children.values():
            child.wanted = False
            child.kill(now)

    def _over(self, now: float) -> bool:
        return self._phase is Phase.STOPPING and all(_given_up(child, now) for child in self._children.values())

    def _watch(self, what: Any, then: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, then)


def say(line: str) -> None:
    """Tell whoever watches the terminal; if it was closed, nobody does."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _given_up(child: Child, now: float) -> bool:
    return child.killed_at is not None and now - child.killed_at > UNKILLABLE
