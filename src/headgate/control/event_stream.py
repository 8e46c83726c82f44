"""The history of a deployment as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from headgate.control.rollouts import Line
from headgate.errors import InvalidRequest

LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
"""Without an event: shorter than proxies let a silent connection live."""
AT_A_TIME = 100
_LARGEST = 1 << 62


def resumed_after(text: str | None) -> int | None:
    """Return the id of the last event a client has seen, as its ``Last-Event-ID`` says; None without one. Raises `InvalidRequest`."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > _LARGEST:
        raise InvalidRequest(f"Last-Event-ID: expected the id of an event of this stream, a number, got {text[:40]!r}")
    return int(text)


async def stream(
    read: Callable[[int, int], Awaitable[list[Line]]], after: int, wait: Callable[[float], Awaitable[object]]
) -> AsyncIterator[str]:
    """Yield the lines that follow the one with the id ``after``, for as long as somebody listens; a comment where there is none.

    ``read`` gives the lines after an id, at most so many; ``wait`` lets seconds pass.
    """
    yield ": the history, line by line\n\n"
    silent = 0.0
    while True:
        lines = await read(after, AT_A_TIME)
        for line in lines:
            yield as_event(line)
            after, silent = line.id, 0.0
        if lines:
            continue
        await wait(LOOK_SECONDS)
        silent += LOOK_SECONDS
        if silent >= HEARTBEAT_SECONDS:
            silent = 0.0
            yield ": still here\n\n"


def as_event(line: Line) -> str:
    """Return a line of the history as one event: its id, what it is, and all of it as JSON, which has no line breaks."""
    return f"id: {line.id}\nevent: {line.what}\ndata: {msgspec.json.encode(line).decode()}\n\n"
