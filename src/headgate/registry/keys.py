"""API keys: shown once when they are made, known afterwards only by their hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec
from sqlalchemy import JSON, String, select
from sqlalchemy.orm import Mapped, mapped_column

from headgate.clock import Clock
from headgate.errors import NotFound, SpecError, did_you_mean
from headgate.registry.database import Base, Database
from headgate.spec import check_name

SCOPES = ("infer", "feedback", "admin", "gateway")
"""What a key may be good for."""


class KeyRow(Base):
    """Table ``keys``."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(String, unique=True)
    prefix: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created: Mapped[float]
    revoked: Mapped[float | None]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it may be shown: everything but the secret."""

    id: str
    """8 characters; the key begins ``hg_<id>_``."""
    name: str
    scopes: tuple[str, ...]
    created: float
    """Wall seconds."""
    revoked: float | None = None
    """Wall seconds, or None while it is good."""


class Hashed(Protocol):
    """Whatever holds the hash of a key, such as `headgate.routes.KeyRoute`."""

    @property
    def sha256(self) -> str:
        """Hex digest of the whole key."""
        ...


AnyHashed = TypeVar("AnyHashed", bound=Hashed)


class KeyHash(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is good, as those who check keys may know it."""

    id: str
    sha256: str
    """Hex digest of the whole key."""
    scopes: frozenset[str]


class Keys:
    """The keys of a home."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(self, name: str, scopes: Iterable[str]) -> tuple[Key, str]:
        """Make a key and return it with its text, ``hg_<8 characters>_<43 characters>``, which is nowhere to be had again.

        ``scopes`` are of `SCOPES`. Raises `SpecError` for others, for none, and for a name that is none.
        """
        check_name(name, "name")
        wanted = _check_scopes(scopes)
        number = secrets.token_hex(4)
        text = f"hg_{number}_{secrets.token_urlsafe(32)}"
        row = KeyRow(
            id=number,
            name=name,
            sha256=hash_key(text),
            prefix=f"hg_{number}",
            scopes=wanted,
            created=self._clock.wall(),
            revoked=None,
        )
        with self._database.begin() as session:
            session.add(row)
        return _key(row), text

    def all(self) -> list[Key]:
        """Return every key, revoked ones too, oldest first."""
        with self._database.session() as session:
            return [_key(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.created, KeyRow.id))]

    def revoke(self, key: str) -> Key:
        """Make a key worthless, given its id (or its whole text); return it. Again is no error. Raises `NotFound`."""
        number = key.split("_")[1] if key.startswith("hg_") else key
        with self._database.begin() as session:
            row = session.get(KeyRow, number)
            if row is None:
                known = session.scalars(select(KeyRow.id)).all()
                raise NotFound(
                    f"key {number[:40]!r}: there is no such key{did_you_mean(number, known) or '.'} 'headgate key list' shows them"
                )
            if row.revoked is None:
                row.revoked = self._clock.wall()
            return _key(row)

    def hashes(self) -> tuple[KeyHash, ...]:
        """Return the hashes of the keys that are good, oldest first: what goes to those who check keys."""
        with self._database.session() as session:
            good = select(KeyRow).where(KeyRow.revoked.is_(None)).order_by(KeyRow.created, KeyRow.id)
            return tuple(KeyHash(id=row.id, sha256=row.sha256, scopes=frozenset(row.scopes)) for row in session.scalars(good))


def hash_key(text: str) -> str:
    """Return what is stored of a key: the SHA-256 of its text, in hex. 256 random bits need neither salt nor stretching."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def check_key(text: str, keys: Iterable[AnyHashed]) -> AnyHashed | None:
    """Return the one of ``keys`` whose text was presented, or None; the time taken does not depend on which, or on how near."""
    presented = hash_key(text)
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, presented):
            found = key
    return found


def _check_scopes(scopes: Iterable[str]) -> list[str]:
    wanted = sorted(set(scopes))
    for scope in wanted:
        if scope not in SCOPES:
            raise SpecError(f"scopes: expected some of {', '.join(SCOPES)}, got {scope[:80]!r}{did_you_mean(scope, SCOPES)}")
    if not wanted:
        raise SpecError(f"scopes: expected at least one of {', '.join(SCOPES)}, got none")
    return wanted


def _key(row: KeyRow) -> Key:
    return Key(id=row.id, name=row.name, scopes=tuple(row.scopes), created=row.created, revoked=row.revoked)
