"""What a user names to be served, as far as it can be judged without loading anything: ``serve`` checks with it before it starts."""

from __future__ import annotations

import re
from pathlib import Path

from headgate.errors import NotFound, did_you_mean

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
_ENDING = re.compile(r"\.[A-Za-z]\w*$")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/.+")
_CODE = re.compile(r"(?P<path>.+\.py):[A-Za-z_]\w*")


def is_address(target: str) -> bool:
    """Whether ``target`` is to be fetched, such as ``models:/wine@champion``: only whoever fetches it knows whether it is there."""
    return bool(_ADDRESS.fullmatch(target)) and not Path(target).exists()


def path_of(target: str) -> Path:
    """Return the file or folder of ``target``: a path, or ``file.py:Class``."""
    code = _CODE.fullmatch(target)
    return Path(code["path"] if code else target).expanduser()


def looks_like_path(text: str) -> bool:
    """Tell a target from a reference such as ``fraud@3``: it exists, or it holds what no name may."""
    return path_of(text).exists() or not _REFERENCE.fullmatch(text)


def has_ending(text: str) -> bool:
    """Whether a file may be meant although it could be a reference: ``fraud.onnx`` is a legal name of a model, too."""
    return bool(_ENDING.search(text))


def check(target: str) -> None:
    """Raise `NotFound`, with the likely spelling, if there is nothing at ``target``."""
    if not is_address(target) and not path_of(target).exists():
        raise NotFound(f"{missing(target)} Nothing was started")


def missing(target: str) -> str:
    """Say that there is nothing at ``target``, with the likely spelling."""
    path = path_of(target)
    folder = path.parent
    there = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return f"{target}: there is no such file or folder in {folder.absolute()}{did_you_mean(path.name, there) or '.'}"
