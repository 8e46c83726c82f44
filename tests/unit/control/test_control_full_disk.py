"""A tick on a disk without room: what must not wait goes out, the rest is done when there is room, and the status says why it waits."""

from __future__ import annotations

import pytest
from control_world import ControlWorld

from headgate.control import reconcile
from headgate.errors import StorageFull
from headgate.registry.keys import KeyHash
from headgate.routes import decode_table


@pytest.fixture
def full(world: ControlWorld, monkeypatch: pytest.MonkeyPatch):
    """A world that serves, and whose disk is full from then on."""
    world.put("fraud@1")
    world.pass_time(1.0)

    def refuse(path, data):
        raise StorageFull(f"no space left on the disk of {path}")

    monkeypatch.setattr(reconcile, "write_atomically", refuse)
    return world


def test_a_revoked_key_is_told_without_room(full: ControlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway hears of keys at once; the file for one that starts later follows as soon as it can be written, and once."""
    path = full.control._setting.routes
    full.registry.keys.good = (KeyHash(id="a", sha256="0" * 64, scopes=frozenset({"infer"})),)
    for _ in range(3):
        full.control.try_tick()
    assert [key.id for key in full.gateway.sent.keys] == ["a"]
    assert decode_table(path.read_bytes()).keys == ()
    sent = len(full.gateway.tables)
    monkeypatch.undo()
    full.control.try_tick()
    assert decode_table(path.read_bytes()) == full.gateway.sent
    assert len(full.gateway.tables) == sent
    path.unlink()
    full.control.try_tick()
    assert not path.exists(), "it is written when there is news"


def test_what_waits_for_room_says_so(full: ControlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a tick was not finished can be asked for until one is; what it could not do is done then."""
    full.registry.keys.good = (KeyHash(id="a", sha256="0" * 64, scopes=frozenset({"infer"})),)
    full.control.try_tick()
    assert full.control.trouble == f"no space left on the disk of {full.control._setting.routes}"
    monkeypatch.undo()
    full.control.try_tick()
    assert full.control.trouble == ""
