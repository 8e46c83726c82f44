"""Hooks: URLs and commands that are told of every line of a deployment's history, as CloudEvents, beside the tick and never in its way.

At least once and in order, for each hook by itself: the next line is told when the one before was delivered, or given up after a day.
What has not been told is what lies behind the hook's cursor (`headgate.control.hook_queue`); what is remembered here beyond that,
how often an attempt has failed, only says when the next one is made.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from headgate.clock import Clock
from headgate.control.hook_delivery import Message
from headgate.control.hook_queue import Waiting
from headgate.control.store import Store
from headgate.errors import HeadgateError
from headgate.spec import HookSpec

LOOK_SECONDS = 1.0
"""Between looks at the history."""
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 1800.0
"""Before the second attempt, and between late ones; twice as long after each."""
GIVE_UP_SECONDS = 86_400.0
"""A line is not told any more if the last attempt has failed so long after it was written."""
AT_ONCE = 16
"""Attempts under way at a time, of all hooks together."""

Deliver = Callable[[HookSpec, Message], Awaitable[str]]
"""One attempt; returns why it did not work, empty if it did."""
_Key = tuple[str, HookSpec]


class _Retry(NamedTuple):
    failures: int
    at: float
    """Monotonic seconds."""


def cloud_event(deployment: str, waiting: Waiting) -> Message:
    """Return a line of the history as a CloudEvent 1.0 in JSON. The id is that of the line, whenever it is sent."""
    line = waiting.line
    moment = datetime.fromtimestamp(line.at, UTC)
    # The number alone would come again with another home; with the moment it is one of a kind wherever events are gathered.
    identity = f"{line.id}-{int(line.at * 1e6)}"
    body = {
        "specversion": "1.0",
        "id": identity,
        "source": f"/deployments/{deployment}",
        "type": f"headgate.rollout.{line.what}",
        "subject": deployment,
        "time": moment.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            "deployment": deployment,
            "rollout": line.rollout,
            "candidate": waiting.candidate,
            "baseline": waiting.baseline,
            "who": line.who,
            "what": line.what,
            "why": line.why,
            "evidence": line.evidence,
        },
    }
    return Message(identity, msgspec.json.encode(body))


def pause(failures: int, draw: Callable[[], float]) -> float:
    """Return the seconds before the next attempt, after ``failures``: doubled each time, and somewhere in the upper half of that."""
    return float(min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 30)) * (0.5 + draw() / 2))


class Hooks:
    """Tells the hooks of all deployments. `turn` looks once; `run` does so for ever."""

    def __init__(self, store: Store, deliver: Deliver, clock: Clock, draw: Callable[[], float]) -> None:
        self._store = store
        self._deliver = deliver
        self._clock = clock
        self._draw = draw
        self._room = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[_Key, asyncio.Task[None]] = {}
        self._retries: dict[_Key, _Retry] = {}

    async def run(self) -> None:
        """Look every second, until cancelled."""
        try:
            while True:
                await self.turn()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def turn(self) -> None:
        """Begin to tell every hook for which it is time. Returns at once; `settle` waits."""
        self._collect()
        try:
            hooked = await asyncio.to_thread(self._store.hooked)
        except HeadgateError as error:
            print(f"hooks: {error}; looked at again in {LOOK_SECONDS:g} s", file=sys.stderr)
            return
        self._retries = {key: retry for key, retry in self._retries.items() if key in hooked}
        now = self._clock.monotonic()
        for key in hooked:
            if key not in self._under_way and (key not in self._retries or self._retries[key].at <= now):
                self._under_way[key] = asyncio.create_task(self._tell(*key))

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._collect()

    def _collect(self) -> None:
        """Let go what has ended; what has ended by a fault of ours is tried again like what was refused."""
        for key, task in list(self._under_way.items()):
            if task.done():
                del self._under_way[key]
                if not task.cancelled() and (error := task.exception()) is not None:
                    traceback.print_exception(error)
                    self._later(*key, f"{type(error).__name__} here")

    async def _tell(self, deployment: str, hook: HookSpec) -> None:
        """Tell one hook of everything that waits for it, until an attempt fails."""
        try:
            while (waiting := await asyncio.to_thread(self._store.waiting, deployment, hook)) is not None:
                if not hook.events or waiting.line.what in hook.events:
                    if not await self._attempt(deployment, hook, waiting):
                        return
                    self._retries.pop((deployment, hook), None)
                await asyncio.to_thread(self._store.passed, deployment, hook, waiting.line.id)
        except HeadgateError as error:  # the database is busy, or full
            self._later(deployment, hook, str(error))

    async def _attempt(self, deployment: str, hook: HookSpec, waiting: Waiting) -> bool:
        """Make one attempt, and tell whether the line is done with."""
        message = cloud_event(deployment, waiting)
        async with self._room:
            said = await self._deliver(hook, message)
        if not said:
            return True
        if self._clock.wall() - waiting.line.at < GIVE_UP_SECONDS:
            self._later(deployment, hook, f"{waiting.line.what} ({message.id}): {said}")
            return False
        hours = GIVE_UP_SECONDS / 3600
        print(
            f"{_named(deployment, hook)}: {waiting.line.what} ({message.id}) is given up after {hours:g} h: {said}", file=sys.stderr
        )
        return True

    def _later(self, deployment: str, hook: HookSpec, why: str) -> None:
        before = self._retries.get((deployment, hook))
        failures = before.failures + 1 if before else 1
        seconds = pause(failures, self._draw)
        self._retries[deployment, hook] = _Retry(failures, self._clock.monotonic() + seconds)
        print(f"{_named(deployment, hook)}: {why}; attempt {failures + 1} in {seconds:.0f} s", file=sys.stderr)


def _named(deployment: str, hook: HookSpec) -> str:
    # Without the query, which often holds somebody's token.
    return f"hook of {deployment} ({hook.url.partition('?')[0] if hook.url is not None else hook.command[0]})"
