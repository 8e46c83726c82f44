"""The health protocol of gRPC: for load balancers, Kubernetes' gRPC probes and ``grpc_health_probe``.

Source: github.com/grpc/grpc/blob/master/doc/health-checking.md. It needs no key, so it says nothing of single deployments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from headgate.errors import NotFound
from headgate.protocols.base import Catalogue, Reply, Request, Route
from headgate.protocols.base.grpc import GrpcProtocol, Messages, services

_SERVICE = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3


class Health(GrpcProtocol):
    """All services stand and fall together: they serve while every deployment would compute a request."""

    name: ClassVar[str] = "grpc_health"
    messages = Messages("headgate.protocols.grpc_health", "messages.binpb")
    service = _SERVICE
    routes: ClassVar[Sequence[Route]] = (
        Route("POST", f"/{_SERVICE}/Check", "check", "open", "grpc"),
        Route("POST", f"/{_SERVICE}/List", "list_all", "open", "grpc"),
        Route("POST", f"/{_SERVICE}/Watch", "watch", "open", "grpc", watching=True),
    )

    def check(self, _: Request, catalogue: Catalogue, message: Any) -> Reply:
        """Whether a service serves; the one without a name is the whole server. Raises `NotFound`."""
        status = self._status(catalogue, message.service)
        if status == _UNKNOWN:
            raise NotFound(
                f"there is no service '{message.service[:200]}' here; here are {list(services())}, and '' is the whole server"
            )
        return self.write("grpc.health.v1.HealthCheckResponse", status=status)

    def watch(self, _: Request, catalogue: Catalogue, message: Any) -> Reply:
        """The same for whoever waits: a service that does not exist may still come."""
        return self.write("grpc.health.v1.HealthCheckResponse", status=self._status(catalogue, message.service))

    def list_all(self, _: Request, catalogue: Catalogue, _message: Any) -> Reply:
        """Every service, and the whole server."""
        return self.write(
            "grpc.health.v1.HealthListResponse",
            statuses={name: {"status": self._status(catalogue, name)} for name in ("", *services())},
        )

    def _status(self, catalogue: Catalogue, service: str) -> int:
        if service and service not in services():
            return _UNKNOWN
        return _SERVING if catalogue.ready else _NOT_SERVING
