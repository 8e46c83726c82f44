"""How far each hook has come in the history of its deployment: one number in the home's database, and no other state.

The history itself is the queue. The number grows when a line was delivered, or given up: a control that is killed before that
delivers the line once more, with the same id.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from headgate.control import rollouts
from headgate.control.meta import MetaRow
from headgate.spec import HookSpec

_PREFIX = "hook/"


class Waiting(NamedTuple):
    """What comes next for a hook."""

    line: rollouts.Line
    candidate: str
    """Revision that takes over."""
    baseline: str
    """The one that had the traffic; empty where none had."""


def follow(session: Session, deployment: str, hooks: tuple[HookSpec, ...]) -> None:
    """Let new hooks begin behind the last line there is, and forget those that are gone."""
    there = select(MetaRow).where(MetaRow.key.startswith(f"{_PREFIX}{deployment}/", autoescape=True))
    present = {row.key: row for row in session.scalars(there)}
    wanted = {_key(deployment, hook) for hook in hooks}
    for key in present.keys() - wanted:
        session.delete(present[key])
    for key in sorted(wanted - present.keys()):
        session.add(MetaRow(key=key, value=str(rollouts.last_line(session, deployment))))


def followed(session: Session) -> set[str]:
    """Return the names of the deployments that have hooks."""
    keys = session.scalars(select(MetaRow.key).where(MetaRow.key.startswith(_PREFIX, autoescape=True)))
    return {key.split("/")[1] for key in keys}


def waiting(session: Session, deployment: str, hook: HookSpec) -> Waiting | None:
    """Return the line of the history that comes next for a hook, whether it wants it or not; None if there is none."""
    row = session.get(MetaRow, _key(deployment, hook))
    lines = rollouts.following(session, deployment, int(row.value), 1) if row else []
    if not lines:
        return None
    line = lines[0]
    moved = (line.evidence.get("to", ""), line.evidence.get("from", ""))
    candidate, baseline = rollouts.arms(session, deployment, line.rollout) or moved
    return Waiting(line, candidate, baseline)


def passed(session: Session, deployment: str, hook: HookSpec, line: int) -> None:
    """Let a hook go on behind the line with this id, if it is still there."""
    row = session.get(MetaRow, _key(deployment, hook))
    if row is not None:
        row.value = str(max(line, int(row.value)))


def _key(deployment: str, hook: HookSpec) -> str:
    """A hook is where it leads: with other events it goes on where it was."""
    place = hook.url if hook.url is not None else "\0".join(hook.command)
    return f"{_PREFIX}{deployment}/{hashlib.sha256(place.encode()).hexdigest()[:32]}"
