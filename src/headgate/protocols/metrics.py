"""`/metrics`: the Prometheus exposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from headgate.errors import Unsupported
from headgate.protocols.base import Catalogue, InferRequest, InferResponse, Plan, Protocol, Reply, Request, Route
from headgate.tensors import Buffer


class Prometheus(Protocol):
    """Text format 0.0.4."""

    name: ClassVar[str] = "metrics"
    routes: ClassVar[Sequence[Route]] = (Route("GET", "/metrics", "metrics"),)

    def metrics(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Everything this gateway counts."""
        return Reply(catalogue.metrics().encode(), b"text/plain; version=0.0.4; charset=utf-8")

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Never called: no route infers."""
        raise Unsupported("metrics take no requests to infer")

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Never called: no route infers."""
        raise Unsupported("metrics take no requests to infer")
