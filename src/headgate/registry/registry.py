"""The registry: which models there are, which versions of them, and which aliases point to which.

A version is written once and never changes; an alias moves, and where it pointed before is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headgate.clock import Clock
from headgate.errors import Conflict, NotFound, SpecError, UntrustedPickle, did_you_mean
from headgate.package.detect import runs_code
from headgate.registry.blobs import PackageStore
from headgate.registry.database import Base, Database
from headgate.registry.keys import Keys
from headgate.spec import check_name, parse_reference


class ModelRow(Base):
    """Table ``models``."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    created: Mapped[float]


class VersionRow(Base):
    """Table ``versions``; rows are only ever added."""

    __tablename__ = "versions"
    __table_args__ = (Index("versions_by_source", "model", "source_digest"),)
    model: Mapped[str] = mapped_column(String, ForeignKey("models.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    source_digest: Mapped[str]
    created: Mapped[float]
    created_by: Mapped[str]
    note: Mapped[str]
    trusted_by: Mapped[str | None]


class AliasRow(Base):
    """Table ``aliases``: where each points now."""

    __tablename__ = "aliases"
    __table_args__ = (ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),)
    model: Mapped[str] = mapped_column(String, primary_key=True)
    alias: Mapped[str] = mapped_column(String, primary_key=True)
    version: Mapped[int]
    updated: Mapped[float]


class AliasHistoryRow(Base):
    """Table ``alias_history``: every move; rows are only ever added."""

    __tablename__ = "alias_history"
    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str]
    alias: Mapped[str]
    version: Mapped[int | None]
    updated: Mapped[float]
    updated_by: Mapped[str]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable entry of a model."""

    model: str
    number: int
    digest: str
    """``sha256:<hex>`` of the package."""
    source_digest: str
    """The same before locking: see `headgate.package.manifest.Manifest.source_digest`."""
    created: float
    """Wall seconds."""
    created_by: str
    note: str
    trusted_by: str | None
    """Who said that the pickle in it may be loaded; None where it holds none."""
    aliases: tuple[str, ...] = ()
    """Those that point here now, sorted."""

    @property
    def reference(self) -> str:
        """``fraud@3``."""
        return f"{self.model}@{self.number}"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A name under which versions are registered."""

    name: str
    created: float
    """Wall seconds."""
    versions: int
    """How many; they are numbered from 1, without a gap unless numbers were asked for."""
    aliases: dict[str, int] = {}


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """One move of an alias."""

    alias: str
    version: int | None
    """Where to; None: it was deleted."""
    updated: float
    """Wall seconds."""
    updated_by: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who registers a version, and what they say about it."""

    by: str = ""
    note: str = ""
    trusted_by: str | None = None
    """Who says that a pickle in the package may be loaded."""
    relock: bool = False
    """Register a package even where one of the same source, locked differently, is registered already."""
    number: int | None = None
    """The number it must have, because clients ask for it by that; None: the next one."""


class Registry:
    """Models, versions and aliases of a home, with the packages and keys beside them. Threads may share it."""

    def __init__(self, database: Database, store: PackageStore, clock: Clock) -> None:
        self.database = database
        self.store = store
        self.keys = Keys(database, clock)
        self._clock = clock

    def register(self, name: str, digest: str, origin: Origin | None = None) -> tuple[Version, bool]:
        """Register the stored package ``digest`` under ``name``; return the version, and whether it is new.

        Numbers rise by one from 1, whoever registers at the same time. What is registered already (the same package, or one of the
        same source unless ``relock``) gives the version there is. Raises `NotFound` if the store lacks the package, `UntrustedPickle` if
        loading it runs code and nobody has vouched for it, and `Conflict` if another package has the number that is asked for.
        """
        check_name(name, "name")
        origin = origin or Origin()
        if origin.number is not None and not 0 < origin.number < 1 << 63:
            raise SpecError(f"number: expected a whole number of at least 1, got {origin.number}")
        manifest = self.store.manifest(digest)
        if origin.trusted_by is None and runs_code(manifest, self.store.path(digest)):
            raise UntrustedPickle(
                f"{manifest.entry}: loading it can run any code that is in the file, and nobody has vouched for it; nothing was "
                "registered. Push it with --trust-pickle if you trust where it comes from"
            )
        with self.database.begin() as session:
            same = VersionRow.digest == digest
            if not origin.relock:
                same |= VersionRow.source_digest == manifest.source_digest
            if origin.number is not None:
                same &= VersionRow.number == origin.number
            found = session.scalars(
                select(VersionRow).where(VersionRow.model == name, same).order_by(VersionRow.number.desc())
            ).first()
            if found is not None:
                return _version(session, found), False
            _check_free(session, name, origin.number)
            return _version(session, self._add(session, name, digest, manifest.source_digest, origin)), True

    def _add(self, session: Session, name: str, digest: str, source_digest: str, origin: Origin) -> VersionRow:
        now = self._clock.wall()
        if session.get(ModelRow, name) is None:
            session.add(ModelRow(name=name, created=now))
            session.flush()
        row = VersionRow(
            model=name,
            number=_newest(session, name) + 1 if origin.number is None else origin.number,
            digest=digest,
            source_digest=source_digest,
            created=now,
            created_by=origin.by,
            note=origin.note,
            trusted_by=origin.trusted_by,
        )
        session.add(row)
        session.flush()
        return row

    def known(self, name: str, source_digest: str) -> Version | None:
        """Return the newest version of ``name`` made from the same source, or None."""
        with self.database.session() as session:
            same = select(VersionRow).where(VersionRow.model == name, VersionRow.source_digest == source_digest)
            row = session.scalars(same.order_by(VersionRow.number.desc())).first()
            return None if row is None else _version(session, row)

    def models(self) -> list[Model]:
        """Return every model, by name."""
        with self.database.session() as session:
            return _models(session)

    def model(self, name: str) -> Model:
        """Return one model. Raises `NotFound`."""
        with self.database.session() as session:
            _require(session, name)
            return _models(session, name)[0]

    def versions(self, name: str) -> list[Version]:
        """Return every version of a model, oldest first. Raises `NotFound`."""
        with self.database.session() as session:
            _require(session, name)
            rows = session.scalars(select(VersionRow).where(VersionRow.model == name).order_by(VersionRow.number)).all()
            aliases = _aliases(session, name)
            return [_struct(row, aliases) for row in rows]

    def version(self, reference: str) -> Version:
        """Return what ``model`` (the newest version), ``model@3`` or ``model@alias`` refers to. Raises `SpecError` or `NotFound`."""
        name, selector = parse_reference(reference)
        with self.database.session() as session:
            _require(session, name)
            if isinstance(selector, str):
                number = _aliased(session, name, selector)
            else:
                number = _newest(session, name) if selector is None else selector
            return _version(session, _numbered(session, name, number))

    def set_alias(self, name: str, alias: str, number: int, by: str = "") -> Version:
        """Point ``alias`` of model ``name`` to version ``number``, and return that. Raises `SpecError` or `NotFound`."""
        check_alias(alias)
        now = self._clock.wall()
        with self.database.begin() as session:
            _require(session, name)
            version = _numbered(session, name, number)
            row = session.get(AliasRow, (name, alias))
            if row is None or row.version != number:
                session.merge(AliasRow(model=name, alias=alias, version=number, updated=now))
                session.add(AliasHistoryRow(model=name, alias=alias, version=number, updated=now, updated_by=by))
                session.flush()
            return _version(session, version)

    def delete_alias(self, name: str, alias: str, by: str = "") -> None:
        """Remove an alias; where it pointed stays in its history. Raises `NotFound`."""
        with self.database.begin() as session:
            _require(session, name)
            _aliased(session, name, alias)
            session.delete(session.get_one(AliasRow, (name, alias)))
            session.add(AliasHistoryRow(model=name, alias=alias, version=None, updated=self._clock.wall(), updated_by=by))

    def alias_history(self, name: str) -> list[AliasMove]:
        """Return every move of every alias of a model, oldest first. Raises `NotFound`."""
        with self.database.session() as session:
            _require(session, name)
            rows = session.scalars(select(AliasHistoryRow).where(AliasHistoryRow.model == name).order_by(AliasHistoryRow.id))
            return [AliasMove(alias=row.alias, version=row.version, updated=row.updated, updated_by=row.updated_by) for row in rows]


def check_alias(alias: str) -> str:
    """Return ``alias`` if it may be one. Raises `SpecError`: numbers are versions."""
    check_name(alias, "alias")
    if alias.isdecimal():
        raise SpecError(f"alias: expected a name that is not a number (those are versions), got {alias!r}")
    return alias


def _require(session: Session, name: str) -> None:
    if session.get(ModelRow, name) is None:
        known = session.scalars(select(ModelRow.name)).all()
        raise NotFound(f"model {name[:200]!r}: there is no such model{_or_list(name, known, 'models')}")


def _check_free(session: Session, name: str, number: int | None) -> None:
    if number is not None and session.get(VersionRow, (name, number)) is not None:
        raise Conflict(
            f"{name}@{number} is another package, and a version never changes; nothing was registered. Give the new one another number, or "
            "another name (--name)"
        )


def _numbered(session: Session, name: str, number: int) -> VersionRow:
    # SQLite holds 64-bit integers, and a reference may have any number of digits.
    row = session.get(VersionRow, (name, number)) if number < 1 << 63 else None
    if row is None:
        raise NotFound(f"{name}@{number}: there is no such version; {name} has {_numbers(session, name)}")
    return row


def _aliased(session: Session, name: str, alias: str) -> int:
    row = session.get(AliasRow, (name, alias))
    if row is None:
        known = session.scalars(select(AliasRow.alias).where(AliasRow.model == name)).all()
        raise NotFound(f"{name}@{alias}: {name} has no such alias{_or_list(alias, known, 'aliases')}")
    return row.version


def _or_list(word: str, known: Sequence[str], kind: str) -> str:
    """Return the likely spelling, else the first few of what there is."""
    few = ", ".join(sorted(known)[:10]) + (", ..." if len(known) > 10 else "")
    return did_you_mean(word, known) or (f"; there are: {few}" if known else f"; there are no {kind} yet")


def _newest(session: Session, name: str) -> int:
    return session.scalar(select(func.max(VersionRow.number)).where(VersionRow.model == name)) or 0


def _numbers(session: Session, name: str) -> str:
    """Say which versions there are, in few words."""
    numbers = session.scalars(select(VersionRow.number).where(VersionRow.model == name).order_by(VersionRow.number)).all()
    if numbers[-1] == len(numbers):
        return f"1 to {len(numbers)}"
    return ", ".join(map(str, numbers[-10:])) + (" and earlier ones" if len(numbers) > 10 else "")


def _aliases(session: Session, name: str) -> list[AliasRow]:
    return list(session.scalars(select(AliasRow).where(AliasRow.model == name).order_by(AliasRow.alias)))


def _version(session: Session, row: VersionRow) -> Version:
    return _struct(row, _aliases(session, row.model))


def _struct(row: VersionRow, aliases: Iterable[AliasRow]) -> Version:
    return Version(
        model=row.model,
        number=row.number,
        digest=row.digest,
        source_digest=row.source_digest,
        created=row.created,
        created_by=row.created_by,
        note=row.note,
        trusted_by=row.trusted_by,
        aliases=tuple(alias.alias for alias in aliases if alias.version == row.number),
    )


def _models(session: Session, name: str | None = None) -> list[Model]:
    counted = select(ModelRow.name, ModelRow.created, func.count(VersionRow.number)).join(
        VersionRow, VersionRow.model == ModelRow.name
    )
    pointing = select(AliasRow).order_by(AliasRow.alias)
    if name is not None:
        counted, pointing = counted.where(ModelRow.name == name), pointing.where(AliasRow.model == name)
    aliases: dict[str, dict[str, int]] = {}
    for row in session.scalars(pointing):
        aliases.setdefault(row.model, {})[row.alias] = row.version
    found = session.execute(counted.group_by(ModelRow.name, ModelRow.created).order_by(ModelRow.name))
    return [Model(name=model, created=created, versions=count, aliases=aliases.get(model, {})) for model, created, count in found]
