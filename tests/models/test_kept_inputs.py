"""What a Python model is given is its own: batches that come later do not change it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_server import Server

SMALL, LARGE = 16, 65_536
"""Floats of a tensor in the link's buffer, and of one in shared memory (64 KiB and more)."""

KEEPER = """
from typing import Annotated
import numpy as np


class Keeper:
    batched = BATCHED

    def __init__(self):
        self.kept = []

    def predict(self, x: Annotated[np.ndarray, "FP32[-1]"]) -> FLOATS:
        self.kept.append(x)
        mine = x.reshape(-1)
        mine += 1
        first = [float(np.asarray(one).ravel()[0]) for one in self.kept if np.asarray(one).size == x.size]
        return ANSWER
"""
FORMS = {
    "row": ("None", "list[float]", "first[-3:]"),
    "batch": ("True", "list[float]", "[first[-3:]]"),
    "whole": ("False", "list[float]", "first[-3:]"),
}
"""How predict is called: the class attribute, what it returns, and the newest three of what it has kept, one number each."""


@pytest.mark.parametrize("form", FORMS)
def test_kept_arrays_do_not_change(form: str, server: Server, tmp_path: Path) -> None:
    """The model keeps and changes what it gets; the first elements of the last three inputs are as it left them, small and large."""
    batched, floats, answer = FORMS[form]
    code = KEEPER.replace("BATCHED", batched).replace("FLOATS", floats).replace("ANSWER", answer)
    (tmp_path / f"keeper_{form}.py").write_text(code)
    server.deploy(f"{tmp_path}/keeper_{form}.py:Keeper")
    for size in (SMALL, LARGE):
        for value in (10, 20, 30):
            rows = np.full((size,) if form == "whole" else (1, size), value, dtype=np.float32)
            found = server.client.predict(f"keeper_{form}", {"x": rows})["output"]
        assert found.ravel().tolist() == [11.0, 21.0, 31.0]
