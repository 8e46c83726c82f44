"""`/metrics`: everything this gateway counts, under Headgate's names or, with ``?names=triton``, under Triton's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import parse_qsl

from headgate.errors import InvalidRequest, Unsupported, did_you_mean
from headgate.protocols.base import Catalogue, InferRequest, InferResponse, Plan, Protocol, Reply, Request, Route
from headgate.protocols.metrics.triton import exposition
from headgate.tensors import Buffer

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_NAMES = ("headgate", "triton")


class Prometheus(Protocol):
    """Text format 0.0.4."""

    name: ClassVar[str] = "metrics"
    routes: ClassVar[Sequence[Route]] = (Route("GET", "/metrics", "metrics"), Route("GET", "/metrics/", "metrics"))

    def metrics(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Everything this gateway counts. Raises `InvalidRequest` for names nobody knows."""
        names = dict(parse_qsl(request.query, keep_blank_values=True)).get("names", "headgate")
        if names not in _NAMES:
            raise InvalidRequest(f"names: expected {' or '.join(_NAMES)}, got {names[:50]!r}{did_you_mean(names, _NAMES)}")
        return Reply((exposition(catalogue) if names == "triton" else catalogue.metrics()).encode(), _TEXT)

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Never called: no route infers."""
        raise Unsupported("metrics take no requests to infer")

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Never called: no route infers."""
        raise Unsupported("metrics take no requests to infer")
