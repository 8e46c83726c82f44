"""API keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headgate.errors import NotFound, SpecError
from headgate.home import Home
from headgate.registry.access import registry_of
from headgate.registry.keys import Keys, check_key
from headgate.routes import KeyRoute
from headgate.testing.clock import ManualClock


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with registry_of(Home(tmp_path), ManualClock()) as registry:
        yield registry.keys


def test_a_key_is_shown_once(keys: Keys, tmp_path: Path) -> None:
    """Its text has the promised form; nothing that can be listed or lies on disk holds it, only its hash."""
    key, text = keys.create("ci", ["infer", "admin", "infer"])
    assert re.fullmatch(r"hg_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", text)
    assert text.startswith(f"hg_{key.id}_")
    assert keys.all() == [key]
    assert key.scopes == ("admin", "infer")
    secret = text[12:].encode()
    assert secret not in msgspec.json.encode(keys.all())
    on_disk = b"".join(path.read_bytes() for path in tmp_path.glob("headgate.db*"))
    assert secret not in on_disk
    assert hashlib.sha256(text.encode()).hexdigest().encode() in on_disk


def test_only_the_whole_key_is_good(keys: Keys) -> None:
    """The right key is found with its scopes among many; a changed, shortened or made-up one is not, nor the hash itself."""
    made = [keys.create(f"k{number}", ["infer"]) for number in range(5)]
    for key, text in made:
        found = check_key(text, keys.hashes())
        assert found is not None and found.id == key.id and found.scopes == {"infer"}
    text = made[2][1]
    wrong = [
        "",
        text[:-1],
        text + "x",
        text.upper(),
        "hg_00000000_" + text[12:],
        hashlib.sha256(text.encode()).hexdigest(),
        "' OR '1'='1",
        "\udc80",
    ]
    assert [presented for presented in wrong if check_key(presented, keys.hashes())] == []


def test_gateways_check_with_what_they_know(keys: Keys) -> None:
    """The hashes as the routing table carries them are enough."""
    _, text = keys.create("ci", ["infer"])
    routes = [KeyRoute(id=key.id, sha256=key.sha256, scopes=key.scopes) for key in keys.hashes()]
    assert check_key(text, routes) is routes[0]


def test_a_revoked_key_is_good_for_nothing(keys: Keys) -> None:
    """It stays listed with when it was revoked; revoking again changes nothing; the others go on."""
    (key, text), (_, other) = keys.create("a", ["infer"]), keys.create("b", ["infer"])
    revoked = keys.revoke(key.id)
    assert revoked.revoked == 1_700_000_000
    assert keys.revoke(text) == revoked
    assert check_key(text, keys.hashes()) is None
    assert check_key(other, keys.hashes()) is not None
    assert len(keys.all()) == 2


def test_unknown_keys_and_scopes_are_said(keys: Keys) -> None:
    """With the likely spelling; a key without any scope is refused."""
    key, _ = keys.create("a", ["infer"])
    with pytest.raises(NotFound, match=f"did you mean '{key.id}'"):
        keys.revoke(key.id[:-1])
    with pytest.raises(NotFound):
        keys.revoke("hg_")
    with pytest.raises(SpecError, match=r"got 'infr'; did you mean 'infer'"):
        keys.create("a", ["infr"])
    with pytest.raises(SpecError, match="at least one"):
        keys.create("a", [])
    with pytest.raises(SpecError, match="name"):
        keys.create("a b", ["infer"])
