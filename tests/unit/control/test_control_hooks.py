"""Hooks of a whole control plane on a manual clock: what is told, in which order, how often, and what a kill leaves to be told."""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from control_world import ControlWorld

from headgate.control import hooks as module
from headgate.control.hook_delivery import Message
from headgate.control.hooks import AT_ONCE, GIVE_UP_SECONDS, LONGEST_SECONDS, Hooks, pause
from headgate.control.orders import roll_back
from headgate.control.store import DeploymentRow
from headgate.errors import NotReady
from headgate.spec import EVENTS, HookSpec

URL, OTHER = "https://a.example/hook", "https://b.example/hook"
CANARY = {"strategy": "canary", "steps": [5], "bake": "10s", "min_events": 0, "on_undecided": "promote", "rollback_window": "60s"}


class Receiver:
    """Takes what hooks are told; refuses as often as it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        """Where, and the event; also what was refused."""
        self.refuses: dict[str, int] = {}
        self.gate: asyncio.Event | None = None
        """While it is not set, calls hang."""
        self.most = self.present = 0

    async def __call__(self, hook: HookSpec, message: Message) -> str:
        where = hook.url or " ".join(hook.command)
        self.got.append((where, json.loads(message.body)))
        self.present += 1
        self.most = max(self.most, self.present)
        if self.gate is not None:
            await self.gate.wait()
        self.present -= 1
        if self.refuses.get(where, 0) > 0:
            self.refuses[where] -= 1
            return "answered 503"
        return ""

    def told(self, where: str = URL) -> list[str]:
        return [event["type"].removeprefix("headgate.rollout.") for place, event in self.got if place == where]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def hooks_of(world: ControlWorld, receiver: Callable[[HookSpec, Message], Awaitable[str]]) -> Hooks:
    return Hooks(world.store, receiver, world.clock, lambda: 1.0)


def tell(world: ControlWorld, receiver: Receiver, hooks: Hooks | None = None, seconds: float = 0.0) -> None:
    """Look once, or every second for ``seconds``."""

    async def look() -> None:
        looking = hooks or hooks_of(world, receiver)
        for second in range(int(seconds) + 1):
            if second:
                world.clock.advance(1.0)
            await looking.turn()
            await looking.settle()

    asyncio.run(look())


def test_every_line_of_the_history_is_told(world: ControlWorld, receiver: Receiver) -> None:
    """From the first version to the end of a rollout: the lines of the history, in their order, each once."""
    world.put("fraud@1", rollout=CANARY, hooks=[URL])
    world.pass_time(3)
    world.put("fraud@2", rollout=CANARY, hooks=[URL])
    world.pass_time(100)
    tell(world, receiver)
    tell(world, receiver)
    assert receiver.told() == [line.what for line in world.store.history("fraud")]
    assert receiver.told() == ["switched", "begun", "step", "promoted", "complete"]


def test_an_event_is_a_cloudevent_that_says_all(world: ControlWorld, receiver: Receiver) -> None:
    """The attributes of CloudEvents 1.0, and as its data who, what and why, with both revisions and the evidence."""
    world.put("fraud@1", rollout=CANARY, hooks=[URL])
    world.pass_time(3)
    world.put("fraud@2", rollout=CANARY, hooks=[URL])
    world.pass_time(100)
    tell(world, receiver)
    events = [event for _, event in receiver.got]
    switched, begun = events[:2]
    assert set(begun) == {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}
    assert (begun["specversion"], begun["type"], begun["subject"]) == ("1.0", "headgate.rollout.begun", "fraud")
    assert (
        begun["source"] == "/deployments/fraud" and begun["time"].startswith("2023-11-14T22:13:2") and begun["time"].endswith("Z")
    )
    assert begun["data"] == {
        "deployment": "fraud",
        "rollout": 1,
        "candidate": "fraud-2",
        "baseline": "fraud-1",
        "who": "headgate",
        "what": "begun",
        "why": "canary from fraud@1 to fraud@2",
        "evidence": {},
    }
    assert [switched["data"][part] for part in ("rollout", "candidate", "baseline")] == [0, "fraud-1", ""]
    promoted = next(event for event in events if event["data"]["what"] == "promoted")
    assert promoted["data"]["evidence"]["verdict"] == "undecided"
    assert len({event["id"] for event in events}) == len(events)


def test_only_what_was_asked_for_is_told(world: ControlWorld, receiver: Receiver) -> None:
    """A hook with events gets these alone; asking for more later brings nothing up that is past."""
    some = {"url": URL, "events": ["promoted", "rolled_back"]}
    world.put("fraud@1", rollout=CANARY, hooks=[some, OTHER])
    world.pass_time(3)
    world.put("fraud@2", rollout=CANARY, hooks=[some, OTHER])
    world.pass_time(100)
    tell(world, receiver)
    assert receiver.told() == ["promoted"] and len(receiver.told(OTHER)) == 5
    world.put("fraud@2", rollout=CANARY, hooks=[URL, OTHER])
    tell(world, receiver)
    assert receiver.told() == ["promoted"]


def test_a_new_hook_hears_of_what_is_new(world: ControlWorld, receiver: Receiver) -> None:
    """The past is not told to somebody who comes later; to one who has left and comes again neither."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    world.put("fraud@1", hooks=[OTHER])
    world.put("fraud@1", hooks=[URL, OTHER])
    tell(world, receiver)
    assert receiver.got == []


def test_hooks_make_no_new_revision_and_survive_a_rollback(world: ControlWorld) -> None:
    """They are of the deployment: what serves stays as it is when they change, and what serves again after a rollback leaves them."""
    world.put("fraud@1")
    world.pass_time(3)
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    assert world.revisions() == {"fraud-1": "serving"}
    world.put("fraud@2", hooks=[URL])
    world.pass_time(5)
    roll_back(world.store, world.control.views["fraud"], "ann", "")
    deployment = world.store.deployment("fraud")
    assert deployment is not None and [hook.url for hook in deployment.spec.hooks] == [URL]
    assert deployment.spec.model == "fraud@1"


def test_what_fails_is_tried_again_later_and_later(world: ControlWorld, receiver: Receiver) -> None:
    """The same event with the same id, after 1, 2, 4 s; what follows waits for it."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    world.put("fraud@2", hooks=[URL])
    world.pass_time(5)
    receiver.refuses[URL] = 3
    hooks, counts = hooks_of(world, receiver), []
    for _ in range(10):
        tell(world, receiver, hooks)
        counts.append(len(receiver.got))
        world.clock.advance(1.0)
    assert counts == [1, 2, 2, 3, 3, 3, 3, 5, 5, 5]
    assert [event["data"]["candidate"] for _, event in receiver.got] == ["fraud-1"] * 4 + ["fraud-2"]
    assert len({event["id"] for _, event in receiver.got[:4]}) == 1


def test_pauses_grow_to_half_an_hour_and_are_spread() -> None:
    """Doubled with every failure up to the longest, and anywhere in the upper half of that, however often it fails."""
    assert [pause(failures, lambda: 1.0) for failures in (1, 2, 3, 11)] == [1.0, 2.0, 4.0, 1024.0]
    assert [pause(failures, lambda: 0.0) for failures in (1, 2)] == [0.5, 1.0]
    assert pause(10_000, lambda: 1.0) == LONGEST_SECONDS


def test_a_line_is_given_up_after_a_day(world: ControlWorld, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody waits for ever: after a day of failures the line is passed over, which is said, and the next one is told."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    receiver.refuses[URL] = 10**9
    hooks = hooks_of(world, receiver)
    for _ in range(200):
        tell(world, receiver, hooks)
        world.clock.advance(LONGEST_SECONDS)
    attempts = len(receiver.got)
    assert 48 <= attempts <= 51
    assert "switched (1-" in capsys.readouterr().err.splitlines()[-1]
    receiver.refuses[URL] = 0
    world.put("fraud@2", hooks=[URL])
    world.pass_time(5)
    tell(world, receiver, hooks)
    assert [event["data"]["candidate"] for _, event in receiver.got[attempts:]] == ["fraud-2"]


def test_what_is_old_is_tried_at_least_once(world: ControlWorld, receiver: Receiver) -> None:
    """Control that was away for days tells what happened before it went."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    world.clock.advance(3 * GIVE_UP_SECONDS)
    world.restart()
    tell(world, receiver)
    assert receiver.told() == ["switched"]


def test_one_hook_never_waits_for_another(world: ControlWorld, receiver: Receiver) -> None:
    """One that refuses, or hangs, keeps its own order and nobody else's."""
    world.put("fraud@1", hooks=[URL, OTHER])
    world.put("price@1", hooks=[URL])
    world.pass_time(3)
    receiver.refuses[URL] = 1
    tell(world, receiver)
    assert receiver.told(OTHER) == ["switched"]
    assert sorted((where, event["subject"]) for where, event in receiver.got if where == URL) == [(URL, "fraud"), (URL, "price")]


def test_a_hook_that_hangs_keeps_neither_tick_nor_turn(world: ControlWorld, receiver: Receiver) -> None:
    """While a call hangs, looking returns at once, control ticks, and the hook is not called a second time."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)

    async def hang() -> None:
        receiver.gate, hooks = asyncio.Event(), hooks_of(world, receiver)
        await hooks.turn()
        while not receiver.got:
            await asyncio.sleep(0)
        await hooks.turn()
        world.put("fraud@2", hooks=[URL])
        world.pass_time(5)
        assert world.revisions() == {"fraud-2": "serving"} and len(receiver.got) == 1
        receiver.gate.set()
        await hooks.settle()

    asyncio.run(hang())
    assert receiver.told() == ["switched", "switched"]


def test_calls_at_a_time_are_bounded(world: ControlWorld, receiver: Receiver) -> None:
    """However many hooks there are, so many calls are under way and no more; in the end all were told."""
    for name in "abc":
        world.put(f"{name}@1", hooks=[f"https://{name}{n}.example" for n in range(10)])
    world.pass_time(3)

    async def crowd() -> None:
        receiver.gate, hooks = asyncio.Event(), hooks_of(world, receiver)
        await hooks.turn()
        while len(receiver.got) < AT_ONCE:
            await asyncio.sleep(0)
        receiver.gate.set()
        await hooks.settle()

    asyncio.run(crowd())
    assert receiver.most == AT_ONCE and len(receiver.got) == 30


def test_a_kill_between_call_and_cursor_tells_once_more(world: ControlWorld, receiver: Receiver) -> None:
    """At least once: what was delivered, but not yet written down as such, comes again with the same id; nothing is left out."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    passed = world.store.passed

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    world.store.passed = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        asyncio.run(hooks_of(world, receiver)._tell("fraud", HookSpec(url=URL)))
    world.store.passed = passed  # type: ignore[method-assign]
    world.restart()
    tell(world, receiver)
    tell(world, receiver)
    assert receiver.told() == ["switched", "switched"]
    assert len({event["id"] for _, event in receiver.got}) == 1


def test_a_busy_database_is_no_end(world: ControlWorld, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the history cannot be read, or the cursor not be written, it is tried again."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    hooked, passed = world.store.hooked, world.store.passed

    def busy(*_: object) -> Any:
        raise NotReady("the database was busy", retry_after=1.0)

    hooks = hooks_of(world, receiver)
    world.store.hooked = busy  # type: ignore[method-assign]
    tell(world, receiver, hooks)
    world.store.hooked, world.store.passed = hooked, busy  # type: ignore[method-assign]
    tell(world, receiver, hooks)
    world.store.passed = passed  # type: ignore[method-assign]
    tell(world, receiver, hooks, seconds=2)
    assert receiver.told() == ["switched", "switched"]
    assert capsys.readouterr().err.count("the database was busy") == 2


def test_a_fault_of_ours_ends_no_hook(world: ControlWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody expected is written to the log, and the event is tried again."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    calls: list[str] = []

    async def broken(hook: HookSpec, message: Message) -> str:
        calls.append(message.id)
        if len(calls) == 1:
            raise ZeroDivisionError
        return ""

    hooks = hooks_of(world, broken)
    for _ in range(3):
        tell(world, Receiver(), hooks, seconds=1)
    assert len(calls) == 2 and len(set(calls)) == 1
    assert "ZeroDivisionError here; attempt 2 in 1 s" in capsys.readouterr().err


def test_what_is_still_to_tell_of_a_deployment_that_ends_is_told(world: ControlWorld, receiver: Receiver) -> None:
    """Deleting a deployment leaves nothing of its history untold."""
    world.put("fraud@1", hooks=[URL])
    world.pass_time(3)
    world.store.delete("fraud")
    world.pass_time(5)
    tell(world, receiver)
    assert receiver.told() == ["switched"]


def test_what_a_newer_headgate_says_of_a_hook_is_left_out(world: ControlWorld, receiver: Receiver) -> None:
    """After a downgrade the hook is still told, by what is known of it here."""
    world.put("fraud@1", hooks=[URL])
    with world.database.begin() as session:
        row = session.get_one(DeploymentRow, "fraud")
        row.spec = {**row.spec, "hooks": [{**hook, "colour": "blue"} for hook in row.spec["hooks"]]}
    world.pass_time(3)
    tell(world, receiver)
    assert receiver.told() == ["switched"]


def test_the_log_keeps_no_token(world: ControlWorld, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    """What is written of a failure names the hook without its query."""
    world.put("fraud@1", hooks=[f"{URL}?token=hush"])
    world.pass_time(3)
    receiver.refuses[f"{URL}?token=hush"] = 1
    tell(world, receiver)
    said = capsys.readouterr().err
    assert f"hook of fraud ({URL}): switched" in said and "hush" not in said


def test_the_events_of_the_spec_are_those_of_the_history() -> None:
    """Whatever control writes into the history can be asked for, and nothing else can."""
    written = set()
    for path in Path(module.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Event":
                written |= {ast.literal_eval(word.value) for word in node.keywords if word.arg == "what"}
    assert written == set(EVENTS)
