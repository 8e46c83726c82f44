"""The blocks of a document that can be run.

A fenced block whose info string says so is run as a reader would run it, in the order of the document, all in one empty folder:

    ```bash run          a script; fails the test when a command fails
    ```bash run serve    starts a server, waits until it is ready and leaves it running for the blocks below
    ```python run        a Python script

What a reader has before he starts (a model file) comes from a comment the page does not show: ``<!-- run python`` on a line of
its own, the code, ``-->``. Ports 8080 and 8081 become free ones, and `headgate serve` is given them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(
    r"^```(?P<language>bash|python) run(?P<serve> serve)?[ ]*\n(?P<code>.*?)^```[ ]*$"
    r"|^<!-- run (?P<hidden_language>bash|python)[ ]*\n(?P<hidden_code>.*?)^-->[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_INFO = re.compile(r"^```(\S+) (run\b.*)$|^<!-- (run\b.*)$", re.MULTILINE)


class Block(NamedTuple):
    """One block to run."""

    language: str
    code: str
    serve: bool
    line: int


def blocks(path: Path) -> list[Block]:
    """Return what is to be run in ``path``. Raises `ValueError` if a block asks to be run in words that nobody knows."""
    text = path.read_text()
    found = list(_blocks(text))
    if len(found) != len(_INFO.findall(text)):
        raise ValueError(
            f"{path.name}: a block says 'run' in words that are not known; they are: bash run, bash run serve, python run"
        )
    return found


def _blocks(text: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(text):
        language = match["language"] or match["hidden_language"]
        yield Block(language, match["code"] or match["hidden_code"], bool(match["serve"]), text[: match.start()].count("\n") + 1)
