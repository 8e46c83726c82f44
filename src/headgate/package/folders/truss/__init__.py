"""Truss folders."""

from __future__ import annotations

from headgate.package.folders.truss.format import TrussFolder

__all__ = ["TrussFolder"]
