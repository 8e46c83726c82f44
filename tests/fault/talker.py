"""A model that answers in parts: it gives the words of its input, and misbehaves where one of them says so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

VERSION = 1
NOTES = Path(os.environ["FAULT_NOTES"]) / Path(__file__).stem
"""``.closed`` gets a line whenever an answer has ended, ``.given`` is how many parts of a flood were taken, ``.go`` ends every wait."""


class Talker:
    """Declared idempotent: what has not begun may be run again."""

    idempotent = True

    def predict(self, do: str) -> Iterator[str]:
        """Give the words, in the best case."""
        try:
            for word in do.split():
                yield from self._said(word)
        finally:
            with open(NOTES.with_suffix(".closed"), "a") as notes:
                notes.write(f"{do}\n")

    def _said(self, word: str) -> Iterator[str]:
        verb, _, amount = word.partition(":")
        if verb == "sleep":
            time.sleep(float(amount))
        elif verb == "wait":
            while not NOTES.with_suffix(".go").exists():
                time.sleep(0.005)
        elif verb == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif verb == "flood":
            for at in range(int(amount)):
                # At once: who looks meanwhile must not find an empty file.
                NOTES.with_suffix(".giving").write_text(str(at))
                NOTES.with_suffix(".giving").replace(NOTES.with_suffix(".given"))
                yield f"{at:<10000}"
        elif verb == "version":
            yield str(VERSION)
        else:
            yield word
