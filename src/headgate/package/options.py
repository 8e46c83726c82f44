"""What the user says about a target."""

from __future__ import annotations

from pathlib import Path

import msgspec

DESCRIBE_SECONDS = 300.0
"""How long loading the model and running it once may take."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a target becomes a package."""

    name: str | None = None
    """Of the model; None: as its folder says, else from the name of the file."""
    example: Path | None = None
    """Input example: ``.json``, ``.csv`` or ``.npy``."""
    requirements: Path | None = None
    """None: those of the folder's format; the ``requirements.txt`` beside Python code or in a model folder, if there is one."""
    include: tuple[Path, ...] = ()
    """Files and folders to put beside the model."""
    trust_pickle: bool = False
    relock: bool = False
    """Lock anew even where the same source was packaged before."""
    device: str = "cpu"
    threads: int | None = None
    """While the model is looked at; None: the number of cores."""
    timeout: float = DESCRIBE_SECONDS
    """Seconds that looking at it may take."""
