"""Open Inference Protocol V2, over HTTP and over gRPC."""

from __future__ import annotations

from headgate.protocols.oip.grpc import OIPGrpc
from headgate.protocols.oip.http import OIP

__all__ = ["OIP", "OIPGrpc"]
