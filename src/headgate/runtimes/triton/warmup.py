"""The data of ``model_warmup``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headgate.tensors import DTYPES, elements, to_numpy


def made(given: Mapping[str, Any], rows: tuple[int, ...], folder: Path) -> np.ndarray[Any, Any]:
    """Return one input: zeros, random values, or what is in a file below ``folder`` (in binary form), alike in every row.

    ``rows``: the batch axis, if there is one. Raises `ValueError` for a file that is not as long as the shape says, and `OSError`.
    """
    dtype, dims = DTYPES[given["dtype"]], tuple(given["dims"])
    if "file" in given:
        one = to_numpy(dtype, dims, (folder / given["file"]).read_bytes())
    elif not dtype.size:
        one = np.full(dims, b"" if given["fill"] == "zero" else b"headgate", dtype=object)
    else:
        numpy = "float32" if dtype.name == "BF16" else dtype.numpy
        drawn = np.random.default_rng(0).random(elements(dims)).reshape(dims)
        one = np.zeros(dims, numpy) if given["fill"] == "zero" else (drawn if dtype.kind == "float" else drawn * 2).astype(numpy)
    return np.broadcast_to(one, (*rows, *dims)).copy()
