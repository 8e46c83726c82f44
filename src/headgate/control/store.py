"""Desired state in the home's database, and the only writer of it.

Deployments carry a generation that every change of what is asked for raises; an action that was decided on an older one is not
carried out. A revision's row is written once but for its state and reason; which replicas it has lies in ``meta``, until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, get_args, get_origin

import msgspec
from sqlalchemy import JSON, Dialect, TypeDecorator, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headgate.clock import Clock
from headgate.control import hook_queue, rollouts
from headgate.control.decide import Action, Create, Move, Place, Record
from headgate.control.meta import MetaRow
from headgate.control.model import DONE_WITH, TRANSITIONS, Deployment, Placement, Revision, RevisionState, Target
from headgate.control.rollout import Rollout, Thresholds
from headgate.control.walk import Advance, Begin
from headgate.errors import Conflict, HeadgateError, NotFound, did_you_mean
from headgate.registry.database import Base, Database
from headgate.spec import DeploymentSpec, HookSpec, parse_reference, parse_spec, spec_fields

_UNREADABLE = (HeadgateError, msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError)
"""What reading a row raises that somebody else has written: a newer Headgate, or a hand."""
_TABLE = "table"
_PLACEMENT = "placement/"
_AT_ONCE = "at-once/"
"""The generation of a deployment that is to take over as soon as it is ready."""


class _Fields(TypeDecorator[Any]):
    """JSON; None where it is none, so that one such row does not hide the others."""

    impl = JSON
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return what reads a column's value."""
        read = super().result_processor(dialect, coltype)
        assert read is not None

        def tolerant(value: Any) -> Any:
            try:
                return read(value)
            except ValueError:
                return None

        return tolerant


class DeploymentRow(Base):
    """Table ``deployments``; the row of a deleted one stays, so that its revisions' names are never given again."""

    __tablename__ = "deployments"
    name: Mapped[str] = mapped_column(primary_key=True)
    spec: Mapped[dict[str, Any]] = mapped_column(_Fields)
    generation: Mapped[int]
    deleted: Mapped[bool]
    next_revision: Mapped[int]
    created: Mapped[float]
    updated: Mapped[float]


class RevisionRow(Base):
    """Table ``revisions``; rows stay as history."""

    __tablename__ = "revisions"
    name: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(index=True)
    number: Mapped[int]
    version: Mapped[int]
    digest: Mapped[str]
    spec: Mapped[dict[str, Any]] = mapped_column(_Fields)
    state: Mapped[str]
    reason: Mapped[str]
    created: Mapped[float]
    updated: Mapped[float]


class Desired(NamedTuple):
    """All of the desired state at one moment."""

    deployments: tuple[Deployment, ...]
    """Those that are not deleted, or still have revisions; by name."""
    revisions: dict[str, tuple[Revision, ...]]
    """By deployment, those that are not RETIRED and can be read, oldest first."""
    rollouts: dict[str, Rollout]
    """By deployment, the newest."""


class Store:
    """Deployments and revisions of a home."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def load(self) -> Desired:
        """Return all of it, as it was at one moment."""
        with self._database.session() as session:
            revisions: dict[str, tuple[Revision, ...]] = {}
            broken: dict[str, str] = {}
            for row, found in _living(session):
                if isinstance(found, Revision):
                    revisions[row.deployment] = (*revisions.get(row.deployment, ()), found)
                else:
                    broken[row.deployment] = f"revision {row.name} cannot be read ({found})"
            rows = session.scalars(select(DeploymentRow).order_by(DeploymentRow.name))
            living = [row for row in rows if not row.deleted or row.name in revisions]
            at_once = _at_once(session)
            deployments = tuple(_deployment(row, broken.get(row.name, ""), at_once) for row in living)
            return Desired(deployments, revisions, rollouts.newest(session))

    def deployment(self, name: str) -> Deployment | None:
        """Return a deployment, also one that was deleted, as it was last asked for; None if there never was one of that name."""
        with self._database.session() as session:
            row = session.get(DeploymentRow, name)
            return None if row is None else _deployment(row)

    def put(self, spec: DeploymentSpec, expected: int | None = None, *, at_once: bool = False) -> Deployment:
        """Write down what is asked for, and return it. Asking for the same again changes nothing, but gives what failed another try;
        what cannot be read gives way to it. ``at_once``: it takes over when it is ready, without a rollout.

        Raises `Conflict` if ``expected`` is given and is not the present generation, or if the deployment serves another model.
        """
        with self._database.begin() as session:
            row = session.get(DeploymentRow, spec.name)
            # Whoever expects none (0) finds none in one that was deleted: what is left of it only keeps its names from coming again.
            present_at = 0 if row is None or (row.deleted and expected == 0) else row.generation
            if expected is not None and expected != present_at:
                raise _outdated(spec.name, expected, present_at)
            if row is None:
                row = self._new(session, spec)
            present = _deployment(row)
            if not row.deleted and not present.unreadable:
                _check_model(present, spec)
            if row.deleted or present.unreadable or present.spec != spec:
                row.spec, row.deleted = spec_fields(spec), False
                row.generation += 1
                row.updated = self._clock.wall()
            if at_once:
                session.merge(MetaRow(key=_AT_ONCE + spec.name, value=str(row.generation)))
            hook_queue.follow(session, spec.name, spec.hooks)
            self._retire_failed(session, spec.name)
            self._retire_unreadable(session, spec.name)
            return _deployment(row)

    def delete(self, name: str) -> None:
        """Let a deployment end. Raises `NotFound` if there is none of that name."""
        with self._database.begin() as session:
            row = session.get(DeploymentRow, name)
            if row is None or row.deleted:
                known = session.scalars(select(DeploymentRow.name).where(DeploymentRow.deleted.is_(False))).all()
                raise NotFound(f"deployment {name[:200]!r}: there is no such deployment{did_you_mean(name, known)}")
            row.deleted = True
            row.generation += 1
            row.updated = self._clock.wall()
            self._retire_unreadable(session, name)

    def apply(self, deployment: Deployment, actions: Iterable[Action]) -> None:
        """Carry out ``actions`` in one transaction. Raises `Conflict`, and does nothing, if the deployment has changed since."""
        with self._database.begin() as session:
            row = session.get_one(DeploymentRow, deployment.name)
            if row.generation != deployment.generation:
                raise _outdated(deployment.name, deployment.generation, row.generation)
            for action in actions:
                if isinstance(action, Create):
                    self._create(session, row, action.target)
                elif isinstance(action, Move):
                    self._move(session, action)
                elif isinstance(action, Place):
                    _place(session, action.revision, action.placement)
                elif isinstance(action, Begin):
                    rollouts.begin(session, action, self._clock.wall())
                elif isinstance(action, Advance):
                    rollouts.advance(session, action, self._clock.wall())
                elif isinstance(action, Record):
                    rollouts.record(session, deployment.name, 0, action.event, self._clock.wall())

    def history(self, deployment: str, limit: int = 1000) -> list[rollouts.Line]:
        """Return the last ``limit`` lines of a deployment's history, oldest first."""
        with self._database.session() as session:
            return rollouts.history(session, deployment, limit)

    def lines(self, deployment: str, after: int, limit: int) -> list[rollouts.Line]:
        """Return the lines of a deployment's history that follow the one with the id ``after``, ``limit`` at most."""
        with self._database.session() as session:
            return rollouts.following(session, deployment, after, limit)

    def hooked(self) -> list[tuple[str, HookSpec]]:
        """Return every deployment with each of its hooks; deleted ones too, for their history has an end that is told as well."""
        with self._database.session() as session:
            rows = select(DeploymentRow).where(DeploymentRow.name.in_(hook_queue.followed(session))).order_by(DeploymentRow.name)
            deployments = [_deployment(row) for row in session.scalars(rows)]
        return [(deployment.name, hook) for deployment in deployments for hook in deployment.spec.hooks]

    def waiting(self, deployment: str, hook: HookSpec) -> hook_queue.Waiting | None:
        """Return what comes next for a hook in its deployment's history; None if there is nothing."""
        with self._database.session() as session:
            return hook_queue.waiting(session, deployment, hook)

    def passed(self, deployment: str, hook: HookSpec, line: int) -> None:
        """Let a hook go on behind a line of the history."""
        with self._database.begin() as session:
            hook_queue.passed(session, deployment, hook, line)

    def remember(self, rollout: Rollout, judge: bytes, slow: Thresholds) -> None:
        """Keep what the judge remembers of a rollout, its cursors included, and what is slow from now on."""
        with self._database.begin() as session:
            rollouts.remember(session, rollout, judge, slow)

    def remembered(self, rollout: Rollout) -> bytes | None:
        """Return what the judge remembers of a rollout; None before it has seen anything."""
        with self._database.session() as session:
            return rollouts.remembered(session, rollout)

    def before(self, revision: str) -> Revision | None:
        """Return the revision from which ``revision`` took the traffic over; None if nothing is known of one."""
        with self._database.session() as session:
            name = rollouts.predecessor(session, revision)
            row = session.get(RevisionRow, name) if name else None
            return None if row is None else _revision(row, None)

    def table_id(self) -> int:
        """Return the id of the last routing table; 0 before the first."""
        with self._database.session() as session:
            row = session.get(MetaRow, _TABLE)
            return int(row.value) if row else 0

    def next_table_id(self, least: int = 0) -> int:
        """Return a new id for a routing table: above every one before, and above ``least``."""
        with self._database.begin() as session:
            row = session.get(MetaRow, _TABLE)
            number = max(int(row.value) if row else 0, least) + 1
            session.merge(MetaRow(key=_TABLE, value=str(number)))
            return number

    def _new(self, session: Session, spec: DeploymentSpec) -> DeploymentRow:
        now = self._clock.wall()
        row = DeploymentRow(
            name=spec.name, spec=spec_fields(spec), generation=1, deleted=False, next_revision=1, created=now, updated=now
        )
        session.add(row)
        return row

    def _create(self, session: Session, row: DeploymentRow, target: Target) -> None:
        now, number = self._clock.wall(), row.next_revision
        row.next_revision = number + 1
        session.add(
            RevisionRow(
                name=f"{row.name}-{number}",
                deployment=row.name,
                number=number,
                version=target.version,
                digest=target.digest,
                spec=spec_fields(target.spec),
                state=RevisionState.PENDING,
                reason="",
                created=now,
                updated=now,
            )
        )

    def _move(self, session: Session, move: Move) -> None:
        row = session.get_one(RevisionRow, move.revision)
        if move.state not in TRANSITIONS[RevisionState(row.state)]:
            raise AssertionError(f"{move.revision}: there is no way from {row.state} to {move.state}")
        row.state, row.reason, row.updated = move.state, move.reason, self._clock.wall()
        if move.placement is not None:
            _place(session, move.revision, move.placement)
        if move.state is RevisionState.RETIRED or move.state in DONE_WITH:
            session.execute(delete(MetaRow).where(MetaRow.key == _PLACEMENT + move.revision))

    def _retire_failed(self, session: Session, deployment: str) -> None:
        failed = select(RevisionRow).where(RevisionRow.deployment == deployment, RevisionRow.state.in_(DONE_WITH))
        for row in session.scalars(failed).all():
            self._move(session, Move(row.name, RevisionState.RETIRED, row.reason))

    def _retire_unreadable(self, session: Session, deployment: str) -> None:
        for row, found in _living(session, deployment):
            if not isinstance(found, Revision):
                row.state, row.reason, row.updated = RevisionState.RETIRED, f"it could not be read ({found})", self._clock.wall()
                session.execute(delete(MetaRow).where(MetaRow.key == _PLACEMENT + row.name))


def _living(session: Session, deployment: str | None = None) -> Iterator[tuple[RevisionRow, Revision | str]]:
    """Yield every row that is not RETIRED, oldest first, with its revision, or what is wrong with it."""
    kept = select(MetaRow).where(MetaRow.key.startswith(_PLACEMENT, autoescape=True))
    placements = {row.key.removeprefix(_PLACEMENT): row.value for row in session.scalars(kept)}
    wanted = select(RevisionRow).where(RevisionRow.state != RevisionState.RETIRED).order_by(RevisionRow.number)
    if deployment is not None:
        wanted = wanted.where(RevisionRow.deployment == deployment)
    for row in session.scalars(wanted).all():
        found: Revision | str
        try:
            found = _revision(row, placements.get(row.name))
        except _UNREADABLE as error:
            found = str(error)
        yield row, found


def _place(session: Session, revision: str, placement: Placement) -> None:
    session.merge(MetaRow(key=_PLACEMENT + revision, value=msgspec.json.encode(placement).decode()))


def _check_model(deployment: Deployment, spec: DeploymentSpec) -> None:
    present, asked = parse_reference(deployment.spec.model)[0], parse_reference(spec.model)[0]
    if present != asked:
        raise Conflict(
            f"model: deployment {spec.name!r} serves the model {present!r}, and a deployment has one model; nothing was changed. "
            f"Deploy {asked!r} under another --name, or first end this one with 'headgate stop {spec.name}'"
        )


def _outdated(name: str, expected: int, present: int) -> Conflict:
    return Conflict(
        f"deployment {name!r}: generation {expected} was expected, it is at {present}; nothing was changed. Somebody else was faster: "
        "look at it again"
    )


def _at_once(session: Session) -> dict[str, int]:
    kept = select(MetaRow).where(MetaRow.key.startswith(_AT_ONCE, autoescape=True))
    return {row.key.removeprefix(_AT_ONCE): int(row.value) for row in session.scalars(kept)}


def _deployment(row: DeploymentRow, broken: str = "", at_once: Mapping[str, int] = MappingProxyType({})) -> Deployment:
    """Return the deployment of a row, unreadable as the row is, or ``broken`` says of its revisions."""
    try:
        spec = _spec(row.spec)
    except _UNREADABLE as error:
        model = row.spec.get("model") if isinstance(row.spec, dict) else None
        spec, broken = DeploymentSpec(name=row.name, model=str(model or row.name)), f"what was asked for cannot be read ({error})"
    # To end it, nobody needs to read it.
    unreadable = "" if row.deleted else broken
    return Deployment(
        name=row.name,
        spec=spec,
        generation=row.generation,
        deleted=row.deleted,
        at_once=at_once.get(row.name) == row.generation,
        unreadable=unreadable,
    )


def _revision(row: RevisionRow, placed: str | None) -> Revision:
    placement = None if placed is None else msgspec.json.decode(placed, type=Placement)
    target = Target(version=row.version, digest=row.digest, spec=_spec(row.spec))
    return Revision(
        name=row.name,
        deployment=row.deployment,
        number=row.number,
        target=target,
        state=RevisionState(row.state),
        reason=row.reason,
        placement=placement,
    )


def _spec(fields: dict[str, Any]) -> DeploymentSpec:
    return parse_spec(_known(fields, DeploymentSpec))


def _known(fields: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Leave out what a newer Headgate has written and this one does not know."""
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name in fields:
            kept[field.name] = _known_value(fields[field.name], field.type)
    return kept


def _known_value(value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple and isinstance(value, list):
        return [_known_value(item, get_args(kind)[0]) for item in value]
    nested = isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict)
    return _known(value, kind) if nested else value
