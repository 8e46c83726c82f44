"""What a user names to be served, as far as it can be judged without loading anything: ``serve`` checks with it before it starts."""

from __future__ import annotations

import re
from pathlib import Path

from headgate.errors import NotFound, did_you_mean

_CODE = re.compile(r"(?P<path>.+\.py):[A-Za-z_]\w*")


def path_of(target: str) -> Path:
    """Return the file or folder of ``target``: a path, or ``file.py:Class``."""
    code = _CODE.fullmatch(target)
    return Path(code["path"] if code else target).expanduser()


def looks_like_path(text: str) -> bool:
    """Tell a target from a reference such as ``fraud@3``: it exists, or it holds what no name may."""
    return path_of(text).exists() or "/" in text or ":" in text


def check(target: str) -> None:
    """Raise `NotFound`, with the likely spelling, if there is nothing at ``target``."""
    path = path_of(target)
    if path.exists():
        return
    folder = path.parent
    there = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    hint = did_you_mean(path.name, there) or "."
    raise NotFound(f"{target}: there is no such file or folder in {folder.absolute()}{hint} Nothing was started")
