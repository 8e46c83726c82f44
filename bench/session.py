"""The onnxruntime session that every peer and the direct runner use: one thread, CPU."""

from __future__ import annotations

from typing import Any

THREADS = 1


def session(path: str, threads: int = THREADS) -> Any:
    """An InferenceSession; imported here because only the peers' environments have onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
