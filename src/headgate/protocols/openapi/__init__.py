"""`/openapi.json`."""

from __future__ import annotations

from headgate.protocols.openapi.document import OpenAPI

__all__ = ["OpenAPI"]
