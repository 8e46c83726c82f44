"""Triton's model repository: ``config.pbtxt`` and numbered versions, for one model or many."""

from __future__ import annotations

from headgate.package.folders.triton.format import TritonRepository

__all__ = ["TritonRepository"]
