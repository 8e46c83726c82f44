"""Models of a Triton repository: what ``config.pbtxt`` declares, laid over a framework's model or a ``TritonPythonModel``."""

from __future__ import annotations

from headgate.runtimes.triton.runtime import TritonRuntime

__all__ = ["TritonRuntime"]
