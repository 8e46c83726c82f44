"""Which path is whose: the routes of all protocols on the shelf, and who may use them.

Deny by default: a path that no protocol names does not exist, and every route says which scope it needs. The table can be listed
(`Endpoints.routes`), so that a test sees every one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from headgate import plugins
from headgate.errors import (
    HeadgateError,
    InvalidRequest,
    MethodNotAllowed,
    Misdirected,
    NotFound,
    NotReady,
    PermissionDenied,
    Unauthenticated,
    Unsupported,
)
from headgate.routes import KeyRoute, RouteTable
from headgate.serving.paths import Endpoint, Paths
from headgate.serving.wire.head import Head, split_path

DEFAULT_DIALECT = "tfserving"
"""Of paths under ``/v1`` that name a deployment nobody knows, unless all that are known speak another one."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Endpoints:
    """The routing of one gateway."""

    def __init__(self, hosts: Iterable[str], *, require_key: bool, guard_admin: bool = False) -> None:
        self._protocols = [kind() for _, kind in plugins.load_all("headgate.protocols")]
        self._hosts = LOOPBACK | {host.lower() for host in hosts}
        self._require_key = require_key
        self._guard_admin = guard_admin
        """What takes the scope admin takes a key, even where nothing else does."""
        self._keys: dict[str, KeyRoute] | None = None
        """By hash; None until a routing table has said which there are."""
        self._dialects: dict[str, str] = {}
        """Deployment -> dialect of its ``/v1`` paths."""
        self._strangers = DEFAULT_DIALECT
        """Dialect in which a client is told that a deployment is not known."""
        self._paths = Paths(
            Endpoint(protocol, route, route.operation == "infer") for protocol in self._protocols for route in protocol.routes
        )

    def routes(self) -> list[Endpoint]:
        """Every route on the inference port."""
        return self._paths.endpoints

    def apply(self, table: RouteTable) -> None:
        """Take over the keys that are valid now, and the dialects of the deployments."""
        self._keys = {key.sha256: key for key in table.keys}
        self._dialects = {deployment.name: deployment.v1 for deployment in table.deployments}
        spoken = set(self._dialects.values())
        self._strangers = spoken.pop() if len(spoken) == 1 else DEFAULT_DIALECT

    def resolve(self, head: Head) -> None:
        """Fill in ``endpoint``, ``params`` and ``address``, or ``error``. Says nothing about paths to whom has no key."""
        if head.error is not None:
            return
        try:
            self._check_host(head)
            endpoint, params = self._match(head)
            if endpoint is None or endpoint.route.scope != "open":
                self._check_key(head, endpoint.route.scope if endpoint else "infer")
            if endpoint is None:
                raise self._unmatched(head)
            head.endpoint, head.params = endpoint, params
            if "model" in params:
                head.address = (params["model"], params.get("version"))
        except HeadgateError as error:
            head.error = error

    def _match(self, head: Head) -> tuple[Endpoint | None, Mapping[str, str]]:
        for endpoint, params in self._fitting(head):
            if endpoint.route.method in (head.method, "*") or (head.method == "HEAD" and endpoint.route.method == "GET"):
                return endpoint, params
        return None, {}

    def _fitting(self, head: Head) -> Iterator[tuple[Endpoint, Mapping[str, str]]]:
        """Yield what the path may mean: the right transport, and the dialect of the deployment it names."""
        try:
            segments = split_path(head.path)
        except UnicodeDecodeError:
            raise InvalidRequest("the path is not UTF-8 after percent-decoding") from None
        found = list(self._paths.find(segments))
        named = self._named(found)
        dialect = self._dialects.get(named, self._strangers)
        for endpoint, params in found:
            route = endpoint.route
            misread = bool(named) and params.get("model", named) != named
            if route.transport == head.transport and route.dialect in ("", dialect) and not misread:
                yield endpoint, params

    def _named(self, found: Iterable[tuple[Endpoint, Mapping[str, str]]]) -> str:
        """Return which deployment a path names, of all that it could be read as; empty if none is known."""
        return next((params["model"] for _, params in found if params.get("model") in self._dialects), "")

    def _unmatched(self, head: Head) -> NotFound | MethodNotAllowed | Unsupported:
        if head.transport == "grpc":
            return Unsupported(
                f"there is no method {head.path[:200]} here; grpc.reflection.v1.ServerReflection lists those there are"
            )
        verbs = {endpoint.route.method for endpoint, _ in self._fitting(head)}
        if verbs:
            allow = ", ".join(sorted(verbs))
            return MethodNotAllowed(f"Method Not Allowed: {head.path[:200]} takes {allow}, not {head.method}", allow)
        found = list(self._paths.find(split_path(head.path)))
        named = self._named(found)
        others = {endpoint.route.dialect for endpoint, params in found if endpoint.route.dialect and params.get("model") == named}
        if named and others:
            return NotFound(
                f"{head.path[:200]} is a path of the dialect {' and '.join(sorted(others))}; deployment '{named}' speaks "
                f"{self._dialects[named]} under /v1 (its setting 'v1' says which)"
            )
        return NotFound(
            f"there is no path {head.path[:200]} here; models answer at /v2/models/NAME/infer and /predict/NAME, and /docs shows them"
        )

    def _check_host(self, head: Head) -> None:
        """Refuse DNS rebinding (Host) and other sites' pages (Origin)."""
        host = head.headers.get("host")
        if host is not None and _hostname(host) not in self._hosts:
            raise Misdirected(f"Host {host[:100]!r} is not served here; the server's owner can add it with --allow-host")
        origin = head.headers.get("origin")
        if origin is not None and _hostname(origin.rpartition("://")[2]) not in self._hosts:
            raise Misdirected(f"Origin {origin[:100]!r} may not use this server; the server's owner can add it with --allow-host")

    def _check_key(self, head: Head, scope: str) -> None:
        if self._keys is None:
            raise NotReady("which keys are good is not known yet, so nobody is let in; retry")
        if not self._keys and not self._require_key and not (self._guard_admin and scope == "admin"):
            return
        presented = presented_key(head.headers)
        if presented is None:
            raise Unauthenticated("this server needs a key: send 'Authorization: Bearer KEY' (headgate key create makes one)")
        key = self._keys.get(hashlib.sha256(presented.encode()).hexdigest())
        if key is None:
            raise Unauthenticated("the key is not known here, or has been revoked")
        if scope not in key.scopes and "admin" not in key.scopes:
            raise PermissionDenied(f"the key {key.id} lacks the scope {scope!r}; it has {', '.join(sorted(key.scopes))}")


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Return the key of ``Authorization: Bearer K``, ``Authorization: Api-Key K`` or ``x-api-key: K``."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() in ("bearer", "api-key") and value.strip():
        return value.strip()
    return headers.get("x-api-key")


def _hostname(host: str) -> str:
    name = host.lower().strip()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]
