"""A model that does what its input says, good and bad. Rows are computed one after the other; each is noted before it is begun."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import numpy as np

from headgate import InvalidInput

VERSION = 1
NOTES = Path(os.environ["FAULT_NOTES"]) / Path(__file__).stem
"""``.computed`` is what was begun, line by line; ``.load`` what `load` should do; ``.go`` ends every wait, and ``.waits`` is who waits."""


def do_it(what: str) -> None:
    """Misbehave as ``what`` says; other words do nothing."""
    verb, _, amount = what.partition(" ")
    if verb == "sleep":
        time.sleep(float(amount))
    elif verb == "wait":
        NOTES.with_suffix(".waits").write_text(str(os.getpid()))
        while not NOTES.with_suffix(".go").exists():
            time.sleep(0.005)
    elif verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "segfault":
        ctypes.string_at(0)
    elif verb == "spin":
        while True:
            pass
    elif verb == "hang":
        ctypes.PyDLL(None).sleep(1000)  # C code that never lets go of the interpreter
    elif verb == "raise":
        raise ValueError("this row is marked")
    elif verb == "refuse":
        raise InvalidInput("do: this row is refused")


class Impure:
    """Not declared idempotent: nothing may be run twice."""

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def load(self) -> None:
        """Misbehave as the test has left word."""
        if NOTES.with_suffix(".load").exists():
            do_it(NOTES.with_suffix(".load").read_text())

    def predict(self, do: str, x: int) -> tuple[int, int]:
        """Return ``x`` and the version of the code, in the best case."""
        with open(NOTES.with_suffix(".computed"), "a") as notes:
            notes.write(f"{do} {x}\n")
        if do.startswith("leak "):
            self._kept.append(bytearray(b"\1") * (int(do[5:]) << 20))
        do_it(do)
        return x, VERSION


class Pure(Impure):
    """Declared idempotent."""

    idempotent = True


class ImpureBatch:
    """Called once for a batch, so that one row that raises fails all of it. Not declared idempotent."""

    batched = True

    def __init__(self) -> None:
        self._rows = Impure()

    def load(self) -> None:
        """As the other."""
        self._rows.load()

    def predict(self, do: Annotated[np.ndarray, "BYTES"], x: Annotated[np.ndarray, "INT64"]) -> Annotated[np.ndarray, "INT64"]:
        """Return ``x``, in the best case."""
        return np.array([self._rows.predict(*row)[0] for row in zip(do.tolist(), x.tolist(), strict=True)], dtype=np.int64)


class PureBatch(ImpureBatch):
    """Declared idempotent."""

    idempotent = True
