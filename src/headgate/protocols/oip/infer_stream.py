"""``infer_stream``: the requests of ``infer``, whose answer comes as server-sent events, one for each part.

MLServer has it beside ``generate_stream``, for whoever wants tensors and not plain members. Source: MLServer's
``docs/user-guide/streaming.md`` and ``mlserver/rest/endpoints.py``. An event is text, so tensors in it are JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from headgate.errors import InvalidRequest
from headgate.protocols.base import EVENT_STREAM, InferRequest, InferResponse, InParts, Plan, Reply, Request, Route, event
from headgate.protocols.oip.http import OIP
from headgate.tensors import Buffer


class OIPInferStream(OIP):
    """``infer``, as events."""

    name: ClassVar[str] = "oip_infer_stream"
    routes: ClassVar[Sequence[Route]] = (
        Route("POST", "/v2/models/{model}/infer_stream", "infer"),
        Route("POST", "/v2/models/{model}/versions/{version}/infer_stream", "infer"),
    )

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read a request as ``infer`` does. Raises `InvalidRequest` too, where outputs are wanted in binary form."""
        infer = super().decode(request, body, plan)
        if any(binary for _, binary in infer.outputs or ()):
            raise InvalidRequest(
                "binary_data: events are text and hold no binary tensors; leave it out, or ask at /v2/models/NAME/infer"
            )
        return infer

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the only answer there is."""
        return Reply(event(self.encode_part(request, response)), EVENT_STREAM)

    def in_parts(self, request: Request, infer: InferRequest) -> InParts:
        """As events."""
        return InParts(events=True)

    def encode_part(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one answer as ``infer`` does."""
        return bytes(super().encode(request, response).body)
