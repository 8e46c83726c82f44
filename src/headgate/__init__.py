"""Headgate: from a trained model to a production endpoint, and kept right there.

The public Python surface. Importing it loads nothing heavy; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from headgate.assembly import serve as serve
    from headgate.client import AsyncClient as AsyncClient, Client as Client
    from headgate.errors import HeadgateError as HeadgateError, InvalidRequest as InvalidRequest
    from headgate.runtimes.base import InvalidInput as InvalidInput

_HOMES = {
    "AsyncClient": "headgate.client",
    "Client": "headgate.client",
    "HeadgateError": "headgate.errors",
    "InvalidInput": "headgate.runtimes.base",
    "InvalidRequest": "headgate.errors",
    "serve": "headgate.assembly",
}
__all__ = ["AsyncClient", "Client", "HeadgateError", "InvalidInput", "InvalidRequest", "__version__", "serve"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'headgate' has no attribute {name!r}")
