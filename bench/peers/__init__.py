"""The servers that are measured: one file each, found by listing this folder."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.peers.base import Peer

REFERENCE = "headgate"


def found() -> dict[str, Peer]:
    """Every peer by its name, Headgate first: the others are compared with it."""
    names = sorted(entry.name for entry in pkgutil.iter_modules(__path__) if entry.name != "base")
    names.sort(key=lambda name: name != REFERENCE)
    return {name: importlib.import_module(f"{__name__}.{name}").PEER for name in names}
