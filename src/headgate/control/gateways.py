"""Control's end of the link to a gateway: routing tables and answers to wishes down, load reports and wishes up.

The link is a stream of frames, see docs/architecture/processes.md. A gateway that goes away comes back, and is then told the newest
table again; meanwhile there is no report, and nothing is decided by what the last one said.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from headgate.journal import (
    LinkState,
    LoadReport,
    Outcomes,
    Pull,
    Wish,
    decode_outcomes,
    decode_report,
    decode_wish,
    encode_pull,
)
from headgate.routes import RouteTable, WishAnswer, encode_answer, encode_table

FRAME = struct.Struct("<IBBHI")
"""Length of the rest, kind, flags, zero, batch number."""
PROTOCOL = 1
HELLO, ROUTES, REPORT, WISH, ANSWER, PULL, OUTCOMES = 1, 8, 9, 14, 15, 16, 17

_HEAD = FRAME.size - 4
_LARGEST = 64 << 20
"""Bytes of the largest report that is believed."""
_FIRST_RETRY, _LONGEST_RETRY = 0.05, 1.0
_REMEMBERED = 1000
"""Failures that are remembered."""


def frame(kind: int, payload: bytes) -> bytes:
    """Return one frame of the link."""
    return FRAME.pack(_HEAD + len(payload), kind, 0, 0, 0) + payload


class GatewayLink:
    """The link to the gateway at the socket ``path``; ``changed`` is called whenever there is news. Lives in the event loop."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._table: RouteTable | None = None
        self._report: LoadReport | None = None
        self._failures: dict[str, str] = {}
        self._wishes: dict[int, Wish] = {}
        self._outcomes: dict[str, Outcomes] = {}

    @property
    def report(self) -> LoadReport | None:
        """What the gateway last said; None while it is not linked."""
        return self._report

    @property
    def failures(self) -> Mapping[str, str]:
        """Words of the replicas that said FAILED, by id."""
        return self._failures

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """What clients of the gateway wish for and have no answer to. A gateway that comes back says it again."""
        return tuple(self._wishes.values())

    def answer(self, answer: WishAnswer) -> None:
        """Say what became of a wish, after the table that was published last. Any thread may call this."""
        self._wishes.pop(answer.number, None)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._write, frame(ANSWER, encode_answer(answer)))

    def pull(self, deployment: str, rollout: int, after: int, most: int) -> None:
        """Ask for the outcomes of a rollout that follow number ``after``, at most so many. Any thread may call this."""
        if self._loop is not None:
            request = encode_pull(Pull(deployment=deployment, rollout=rollout, after=after, most=most))
            self._loop.call_soon_threadsafe(self._write, frame(PULL, request))

    def pulled(self, deployment: str) -> Outcomes | None:
        """Return what the last pull for a deployment gave, once; None while it has not come. It wakes nobody: the next tick asks."""
        return self._outcomes.pop(deployment, None)

    def publish(self, table: RouteTable) -> None:
        """Send ``table``, and again whenever the gateway comes back. Any thread may call this."""
        self._table = table
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._send)

    async def run(self) -> None:
        """Keep the link until cancelled."""
        self._loop = asyncio.get_running_loop()
        retry = _FIRST_RETRY
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(retry)
                retry = min(2 * retry, _LONGEST_RETRY)
                continue
            retry = _FIRST_RETRY
            try:
                await self._linked(reader, self._writer)
            except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
                print(f"the link to the gateway at {self._path.name} broke ({error!r}); it is connected again", file=sys.stderr)
                await asyncio.sleep(_FIRST_RETRY)
            finally:
                self._unlinked(self._writer)

    async def _linked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(HELLO, json.dumps({"protocol": PROTOCOL, "role": "control"}).encode()))
        self._send()
        while True:
            length, kind, _, _, _ = FRAME.unpack(await reader.readexactly(FRAME.size))
            if not _HEAD <= length <= _LARGEST:
                raise ValueError(f"a frame of {length} bytes")
            payload = await reader.readexactly(length - _HEAD)
            if kind == REPORT:
                self._take(decode_report(payload))
            elif kind == OUTCOMES:
                came = decode_outcomes(payload)
                self._outcomes[came.head.deployment] = came
            elif kind == WISH:
                wish = decode_wish(payload)
                self._wishes[wish.number] = wish
                self._changed()

    def _take(self, report: LoadReport) -> None:
        failed = {replica.id: replica.reason for replica in report.replicas if replica.state is LinkState.FAILED}
        self._failures = dict(list((self._failures | failed).items())[-_REMEMBERED:])
        self._report = report
        self._changed()

    def _send(self) -> None:
        if self._table is not None:
            self._write(frame(ROUTES, encode_table(self._table)))

    def _write(self, data: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(data)

    def _unlinked(self, writer: asyncio.StreamWriter) -> None:
        self._writer = self._report = None
        self._wishes = {}
        self._outcomes = {}
        with contextlib.suppress(OSError):
            writer.close()
        self._changed()
