"""The control API: its routes, each with the scope it needs, and the door they lie behind.

Denied by default: what is not in `ROUTES` wants the scope admin and then does not exist.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from headgate.control.access import Access, admit
from headgate.control.endpoints import Endpoints, answer
from headgate.errors import Cancelled, HeadgateError, InvalidRequest, MethodNotAllowed, NotFound

Endpoint = Callable[[Request], Awaitable[Response]]


class Entry(NamedTuple):
    """One route."""

    method: str
    path: str
    scope: str | None
    """What a key must be for; None: open to everybody."""
    endpoint: str
    """Method of `Endpoints`."""


ROUTES: tuple[Entry, ...] = (
    Entry("GET", "/healthz", None, "healthz"),
    Entry("GET", "/status", "admin", "status"),
    Entry("POST", "/server/stop", "admin", "stop"),
    Entry("GET", "/deployments", "admin", "deployments"),
    Entry("GET", "/deployments/{name}", "admin", "deployment"),
    Entry("PUT", "/deployments/{name}", "admin", "put_deployment"),
    Entry("DELETE", "/deployments/{name}", "admin", "delete_deployment"),
    Entry("GET", "/deployments/{name}/logs", "admin", "logs"),
    Entry("GET", "/deployments/{name}/rollout", "admin", "rollout"),
    Entry("POST", "/deployments/{name}/rollout/{verb}", "admin", "order_rollout"),
    Entry("POST", "/deployments/{name}/rollback", "admin", "roll_back"),
    Entry("GET", "/deployments/{name}/history", "admin", "history"),
    Entry("GET", "/deployments/{name}/events", "admin", "events"),
    Entry("GET", "/models", "admin", "models"),
    Entry("GET", "/models/{name}", "admin", "model"),
    Entry("GET", "/models/{name}/versions", "admin", "versions"),
    Entry("POST", "/models/{name}/versions", "admin", "register"),
    Entry("PUT", "/models/{name}/aliases/{alias}", "admin", "set_alias"),
    Entry("DELETE", "/models/{name}/aliases/{alias}", "admin", "delete_alias"),
    Entry("POST", "/packages", "admin", "upload"),
    Entry("HEAD", "/packages/{digest}", "admin", "has_package"),
    Entry("GET", "/keys", "admin", "keys"),
    Entry("POST", "/keys", "admin", "create_key"),
    Entry("DELETE", "/keys/{id}", "admin", "revoke_key"),
)


def build_app(endpoints: Endpoints, access: Access) -> ASGIApp:
    """Return the application."""
    routes = [Route(entry.path, _guarded(getattr(endpoints, entry.endpoint)), methods=[entry.method]) for entry in ROUTES]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _unrouted})
    return Door(app, [(route, entry.scope) for route, entry in zip(routes, ROUTES, strict=True)], access)


class Door:
    """Looks at every request before anything else does."""

    def __init__(self, app: ASGIApp, scopes: Sequence[tuple[Route, str | None]], access: Access) -> None:
        self._app = app
        self._scopes = scopes
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets here; the server closes it
        try:
            by = admit(Headers(scope=scope), self._needed(scope), self._access)
        except HeadgateError as error:
            await _refusal(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["by"] = by
        await self._app(scope, receive, send)

    def _needed(self, scope: Scope) -> str | None:
        for route, needed in self._scopes:
            if route.matches(scope)[0] is Match.FULL:
                return needed
        return "admin"


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Turn whatever an endpoint raises into an answer; what nobody expected is told to the log, not to the client."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HeadgateError as error:
            return _refusal(error)
        except ClientDisconnect:
            return _refusal(Cancelled("the client went away"))
        except Exception:
            print(f"{request.method} {request.url.path} failed", file=sys.stderr)
            traceback.print_exc()
            return _refusal(
                HeadgateError("the server failed at this, which is no fault of the request; control.log in the home says why")
            )

    return guarded


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 405:
        return _refusal(
            MethodNotAllowed(f"{path}: {request.method} means nothing here; it takes {(error.headers or {}).get('Allow', '')}")
        )
    if error.status_code == 404:
        return _refusal(NotFound(f"{path}: there is no such path in the control API; inference has a port of its own"))
    return _refusal(InvalidRequest(error.detail))


def _refusal(error: HeadgateError) -> Response:
    response = answer({"error": str(error), "code": error.code}, error.status)
    if error.retry_after is not None:
        response.headers["retry-after"] = f"{max(1, round(error.retry_after))}"
    if error.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response
