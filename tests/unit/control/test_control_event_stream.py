"""The history as server-sent events: what is sent, from where on, and that silence is no end."""

from __future__ import annotations

import asyncio
import json

import pytest
from control_world import ControlWorld

from headgate.control.event_stream import HEARTBEAT_SECONDS, LOOK_SECONDS, resumed_after, stream
from headgate.control.rollouts import Line
from headgate.errors import InvalidRequest


def hear(world: ControlWorld, count: int, after: int = 0, meanwhile: list | None = None) -> tuple[list[str], float]:
    """Return the first ``count`` parts of a stream, and the seconds it has waited; each wait does the next thing of ``meanwhile``."""
    waited = 0.0
    things = list(meanwhile or [])

    async def read(last: int, most: int) -> list[Line]:
        return world.store.lines("fraud", last, most)

    async def wait(seconds: float) -> None:
        nonlocal waited
        waited += seconds
        if things:
            things.pop(0)()

    async def listen() -> list[str]:
        parts = []
        async for part in stream(read, after, wait):
            parts.append(part)
            if len(parts) == count:
                break
        return parts

    return asyncio.run(listen()), waited


def test_lines_come_as_they_are_written(world: ControlWorld) -> None:
    """One event each, with its id, what it is, and all of the line; those that are written meanwhile, too."""
    world.put("fraud@1")
    world.pass_time(3)

    def deploy() -> None:
        world.put("fraud@2")
        world.pass_time(5)

    parts, _ = hear(world, 3, meanwhile=[deploy])
    assert parts[0].startswith(": ")
    lines = world.store.history("fraud")
    for part, line in zip(parts[1:], lines, strict=True):
        name, event, data, *end = part.split("\n")
        assert (name, event, end) == (f"id: {line.id}", "event: switched", ["", ""])
        assert json.loads(data.removeprefix("data: "))["why"] == line.why
    assert lines[1].why.startswith("from fraud@1 to fraud@2")


def test_a_client_resumes_where_it_was(world: ControlWorld) -> None:
    """What it has seen does not come again, and what it missed does."""
    for version in (1, 2, 3):
        world.put(f"fraud@{version}")
        world.pass_time(5)
    first, second, third = (line.id for line in world.store.history("fraud"))
    parts, _ = hear(world, 3, after=first)
    assert [part.partition("\n")[0] for part in parts[1:]] == [f"id: {second}", f"id: {third}"]


def test_other_deployments_are_not_told_of(world: ControlWorld) -> None:
    """A stream is of one deployment."""
    world.put("price@1")
    world.pass_time(3)
    parts, _ = hear(world, 2)
    assert parts[1] == ": still here\n\n"


def test_silence_is_filled(world: ControlWorld) -> None:
    """A comment every so often, so that nobody on the way takes the connection for dead."""
    parts, waited = hear(world, 3)
    assert parts[1:] == [": still here\n\n"] * 2
    assert waited == pytest.approx(2 * HEARTBEAT_SECONDS, abs=LOOK_SECONDS)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "9" * 19, "1" * 30, "٣"])
def test_an_id_that_is_none_is_refused(text: str) -> None:
    """What this stream has never sent is the client's mistake, and said so."""
    with pytest.raises(InvalidRequest, match="Last-Event-ID: expected the id of an event"):
        resumed_after(text)


def test_no_id_is_the_present() -> None:
    """Without one, or with an empty one as browsers send it, the stream begins now; with one, behind it."""
    assert [resumed_after(text) for text in (None, "", "0", "17")] == [None, None, 0, 17]
