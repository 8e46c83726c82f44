"""Waiting for what the server does in its own time."""

from __future__ import annotations

import time
from typing import Any

from headgate.cli.api import Api, segment
from headgate.cli.rollout_view import HELD, TAKEN_BACK, of_revision
from headgate.errors import Conflict, DeadlineExceeded, NotFound, NotReady, ServerUnreachable

_POLL = 0.05
_POLL_LIVE = 0.02


def until_live(api: Api, path: str = "/status", limit: float = 30.0) -> Any:
    """GET ``path`` as soon as control answers and knows whom to let in: it may just be starting, for the first time or again.

    Raises `ServerUnreachable` or `NotReady` after ``limit`` seconds, `Unauthenticated` or `PermissionDenied` where we are not let in.
    """
    end = time.monotonic() + limit
    while True:
        try:
            return api.get(path)
        except (ServerUnreachable, NotReady):
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_LIVE)


def until_ready(api: Api, name: str, revision: str | None, limit: float) -> dict[str, Any]:
    """Return the status of deployment ``name`` once its ``revision`` (None: what was asked for last) serves, or has its first share of
    the traffic where it takes over step by step, and the versions that ``also`` names are ready.

    Raises `Conflict` with the reason if one of them failed (and says what serves instead), is held or taken back, or was replaced or
    ended meanwhile; `DeadlineExceeded` after ``limit`` seconds.
    """
    end = time.monotonic() + limit
    while True:
        status: dict[str, Any] = until_live(api, f"/deployments/{segment(name)}")
        revision = revision or status["revision"]
        found = next((entry for entry in status["revisions"] if entry["name"] == revision), None)
        if found is not None and found["state"] == "failed":
            raise Conflict(f"{_named(status, found)} failed: {found['reason']}{_meanwhile(status, revision)}")
        if found is None and revision is not None:
            raise Conflict(f"{revision} is gone: {name} was deployed again or ended meanwhile; see 'headgate status {name}'")
        tried = found is not None and found["state"] == "tried"  # a shadow that is over already
        if found is not None and (tried or _answers(status, found)) and _also_ready(status):
            return status
        if time.monotonic() > end:
            raise DeadlineExceeded(
                f"{name} is not ready after {limit:g} s{_because(status)}{_meanwhile(status, revision)}; the server goes on with it, "
                f"'headgate status {name}' shows how far it is"
            )
        time.sleep(_POLL)


def until_routed(inference: Api, name: str, limit: float = 10.0) -> None:
    """Return once the inference port itself says that ``name`` is ready: it hears of it a moment after control has decided.

    Raises `NotFound`, `NotReady` or `ServerUnreachable` after ``limit`` seconds.
    """
    end = time.monotonic() + limit
    while True:
        try:
            inference.get(f"/v2/models/{segment(name)}/ready")
            return
        except (NotFound, NotReady, ServerUnreachable):
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_LIVE)


def until_taken_back(api: Api, name: str, limit: float) -> None:
    """Return once the candidate of the newest rollout of ``name`` gets no request any more, as the gateway itself says.

    Raises `DeadlineExceeded` after ``limit`` seconds.
    """
    end = time.monotonic() + limit
    while until_live(api, f"/deployments/{segment(name)}/rollout")["candidate"]["share_in_force"] != 0:
        if time.monotonic() > end:
            raise DeadlineExceeded(f"{name} is not rolled back after {limit:g} s; the server goes on, see 'headgate status {name}'")
        time.sleep(_POLL)


def until_gone(api: Api, name: str, limit: float) -> None:
    """Return once deployment ``name`` has ended. Raises `DeadlineExceeded` after ``limit`` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            api.get(f"/deployments/{segment(name)}")
        except NotFound:
            return
        time.sleep(_POLL)
    raise DeadlineExceeded(f"{name} has not ended after {limit:g} s; the server goes on ending it, see 'headgate status'")


def _answers(status: dict[str, Any], revision: dict[str, Any]) -> bool:
    """Whether a revision has traffic and somebody to take it: after a restart of the server it has the first before the second."""
    has_traffic = revision["state"] == "serving"
    rollout = of_revision(status, revision["name"])
    if rollout is not None:
        has_traffic = _has_share(status, revision, rollout)
    return has_traffic and any(replica["state"] == "ready" for replica in revision["replicas"])


def _has_share(status: dict[str, Any], revision: dict[str, Any], rollout: dict[str, Any]) -> bool:
    """Whether a candidate gets requests, or copies of them.

    Raises `Conflict` where it goes back, or waits for somebody, before it comes to that.
    """
    mirrored = rollout["steps"][rollout["step"]]["kind"] == "mirror"
    share, state = rollout["candidate"]["share_in_force"] or mirrored, rollout["state"]
    if state in TAKEN_BACK or (state in HELD and not share):
        what, why = state.replace("_", " "), f": {rollout['reason']}" if rollout["reason"] else ""
        raise Conflict(f"{_named(status, revision)} is {what}{why}{_meanwhile(status, revision['name'])}")
    return bool(share)


def _also_ready(status: dict[str, Any]) -> bool:
    """Whether every version that is kept warm can be asked. Raises `Conflict` for one that has failed."""
    also = status.get("also", ())
    for entry in also:
        if entry["state"] == "failed":
            failed = _named(status, {"name": entry["revision"], "version": entry["version"]})
            raise Conflict(f"also: {failed} failed: {entry['reason']}; {' and '.join(_serving(status))} serves")
    return all(entry["state"] == "ready" for entry in also)


def _named(status: dict[str, Any], revision: dict[str, Any]) -> str:
    return f"{status['model'].partition('@')[0]}@{revision['version']} ({revision['name']})"


def _because(status: dict[str, Any]) -> str:
    return f" ({status['reason']})" if status["reason"] else ""


def _meanwhile(status: dict[str, Any], revision: str | None) -> str:
    """Say who answers the requests, if anybody does."""
    serving = _serving(status, besides=revision)
    return f"; {' and '.join(serving)} still serves" if serving else ""


def _serving(status: dict[str, Any], besides: str | None = None) -> list[str]:
    return [_named(status, entry) for entry in status["revisions"] if entry["share"] and entry["name"] != besides]
