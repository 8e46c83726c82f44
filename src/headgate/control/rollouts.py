"""Rollouts and their history in the home's database. A rollout's row changes with every step; a line of the history never does."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import JSON, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headgate.control.rollout import TRANSITIONS, Event, Rollout, RolloutState, Thresholds
from headgate.control.walk import Advance, Begin
from headgate.errors import Conflict
from headgate.registry.database import Base


class RolloutRow(Base):
    """Table ``rollouts``; rows stay as history."""

    __tablename__ = "rollouts"
    deployment: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str]
    generation: Mapped[int]
    body: Mapped[str]
    """JSON of a `Rollout`."""
    judge: Mapped[bytes | None]
    """What the judge remembers, cursors included."""


class EventRow(Base):
    """Table ``rollout_events``: who, what, when, why, with the evidence."""

    __tablename__ = "rollout_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(index=True)
    rollout: Mapped[int]
    """Its number; 0: a change without one."""
    at: Mapped[float]
    who: Mapped[str]
    what: Mapped[str]
    why: Mapped[str]
    evidence: Mapped[dict[str, Any]] = mapped_column(JSON)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a deployment's history."""

    id: int
    """Grows from line to line, over all deployments."""
    at: float
    """Seconds since the epoch."""
    rollout: int
    who: str
    what: str
    why: str
    evidence: dict[str, Any]


def newest(session: Session) -> dict[str, Rollout]:
    """Return the newest rollout of every deployment that had one; one that cannot be read is as good as none, and begins anew."""
    last = select(RolloutRow.deployment, func.max(RolloutRow.number).label("number")).group_by(RolloutRow.deployment).subquery()
    rows = session.scalars(
        select(RolloutRow).join(last, (RolloutRow.deployment == last.c.deployment) & (RolloutRow.number == last.c.number))
    )
    found = {row.deployment: _read(row) for row in rows}
    return {name: rollout for name, rollout in found.items() if rollout is not None}


def begin(session: Session, action: Begin, now: float) -> None:
    """Write down a new rollout, with the next number of its deployment."""
    name = action.rollout.deployment
    last = session.scalar(select(func.max(RolloutRow.number)).where(RolloutRow.deployment == name)) or 0
    rollout = msgspec.structs.replace(action.rollout, number=last + 1)
    session.add(RolloutRow(deployment=name, number=last + 1, state=rollout.state, generation=1, body=_written(rollout)))
    record(session, name, last + 1, action.event, now)


def advance(session: Session, action: Advance, now: float) -> None:
    """Let a rollout go on. Raises `Conflict` if it is not the one any more on which this was decided."""
    before, after = action.before, action.after
    row = session.get_one(RolloutRow, (before.deployment, before.number))
    if row.generation != before.generation:
        raise Conflict(
            f"rollout {before.number} of {before.deployment!r} has gone on meanwhile (generation {row.generation}, not "
            f"{before.generation}); nothing was changed. Look at it again"
        )
    present = RolloutState(row.state)
    if after.state is not present and after.state not in TRANSITIONS[present]:
        raise AssertionError(f"rollout {before.number} of {before.deployment}: there is no way from {present} to {after.state}")
    row.state, row.generation, row.body = after.state, after.generation, _written(after)
    if action.event is not None:
        record(session, before.deployment, before.number, action.event, now)


def remember(session: Session, rollout: Rollout, judge: bytes, slow: Thresholds) -> None:
    """Keep what the judge remembers, its cursors included, and what is slow from now on."""
    row = session.get_one(RolloutRow, (rollout.deployment, rollout.number))
    row.judge = judge
    present = _read(row)
    if present is not None and present.slow != slow:
        row.body = _written(msgspec.structs.replace(present, slow=slow))


def remembered(session: Session, rollout: Rollout) -> bytes | None:
    """Return what the judge remembers of a rollout; None before it has seen anything."""
    row = session.get(RolloutRow, (rollout.deployment, rollout.number))
    return row.judge if row else None


def record(session: Session, deployment: str, rollout: int, event: Event, now: float) -> None:
    """Add a line to the history."""
    session.add(
        EventRow(
            deployment=deployment, rollout=rollout, at=now, who=event.who, what=event.what, why=event.why, evidence=event.evidence
        )
    )


def history(session: Session, deployment: str, limit: int) -> list[Line]:
    """Return the last ``limit`` lines of a deployment's history, oldest first."""
    rows = session.scalars(select(EventRow).where(EventRow.deployment == deployment).order_by(EventRow.id.desc()).limit(limit))
    return [_line(row) for row in reversed(rows.all())]


def following(session: Session, deployment: str, after: int, limit: int) -> list[Line]:
    """Return at most ``limit`` lines of a deployment's history with an id above ``after``, oldest first."""
    wanted = select(EventRow).where(EventRow.deployment == deployment, EventRow.id > after)
    return [_line(row) for row in session.scalars(wanted.order_by(EventRow.id).limit(limit))]


def last_line(session: Session, deployment: str) -> int:
    """Return the id of the last line of a deployment's history; 0 before the first."""
    return session.scalar(select(func.max(EventRow.id)).where(EventRow.deployment == deployment)) or 0


def arms(session: Session, deployment: str, number: int) -> tuple[str, str] | None:
    """Return candidate and baseline of a rollout, if it can be read."""
    row = session.get(RolloutRow, (deployment, number))
    rollout = _read(row) if row else None
    return (rollout.candidate, rollout.baseline) if rollout else None


def predecessor(session: Session, revision: str) -> str | None:
    """Return the name of the revision that had the traffic before ``revision`` got it last."""
    name = revision.rpartition("-")[0]
    rows = session.scalars(select(EventRow).where(EventRow.deployment == name).order_by(EventRow.id.desc()))
    return next((row.evidence.get("from") for row in rows if row.evidence.get("to") == revision), None)


def _line(row: EventRow) -> Line:
    return Line(id=row.id, at=row.at, rollout=row.rollout, who=row.who, what=row.what, why=row.why, evidence=row.evidence)


def _written(rollout: Rollout) -> str:
    return msgspec.json.encode(rollout).decode()


def _read(row: RolloutRow) -> Rollout | None:
    try:
        return msgspec.json.decode(row.body, type=Rollout)
    except msgspec.MsgspecError:
        return None
