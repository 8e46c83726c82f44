"""Open Inference Protocol V2 and Triton's extensions of it, over HTTP and over gRPC."""

from __future__ import annotations

from headgate.protocols.oip.extensions import OIPExtensions, OIPGrpcExtensions
from headgate.protocols.oip.generate import OIPGenerate
from headgate.protocols.oip.grpc import OIPGrpc
from headgate.protocols.oip.http import OIP
from headgate.protocols.oip.infer_stream import OIPInferStream

# In this order: ``/v2/models/stats`` must not be taken for a model of that name.
__all__ = ["OIPExtensions", "OIPGrpcExtensions", "OIPGrpc", "OIPGenerate", "OIPInferStream", "OIP"]  # noqa: RUF022
