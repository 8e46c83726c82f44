"""`/metrics`: the Prometheus exposition."""

from __future__ import annotations

from headgate.protocols.metrics.prometheus import Prometheus

__all__ = ["Prometheus"]
