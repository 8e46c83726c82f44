"""TensorFlow Serving: its REST API, and its gRPC services."""

from __future__ import annotations

from headgate.protocols.tfserving.grpc import ModelService, PredictionService
from headgate.protocols.tfserving.rest import TFServing

__all__ = ["ModelService", "PredictionService", "TFServing"]
