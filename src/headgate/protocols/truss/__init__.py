"""Truss: the paths of Baseten's model server."""

from __future__ import annotations

from headgate.protocols.truss.http import Truss

__all__ = ["Truss"]
