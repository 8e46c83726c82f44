"""What a user names to be served: a model file or folder, or ``file.py:Class``. Standard library only: ``serve`` checks with it."""

from __future__ import annotations

import re
from pathlib import Path

from headgate.errors import InvalidRequest

_CODE = re.compile(r"(?P<path>.+\.py):(?P<attribute>[A-Za-z_]\w*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def path_of(target: str) -> Path:
    """Return the file or folder of ``target``."""
    code = _CODE.fullmatch(target)
    return Path(code["path"] if code else target)


def looks_like_path(text: str) -> bool:
    """Tell a target from a reference such as ``fraud@3``: it exists, or holds what no name may."""
    return path_of(text).exists() or "/" in text or ":" in text


def check(target: str) -> None:
    """Raise `InvalidRequest` if there is nothing at ``target``."""
    path = path_of(target)
    if not path.exists():
        raise InvalidRequest(f"TARGET: there is no file or folder {str(path)!r} (looked in {Path.cwd()}); nothing was started")
    if path.suffix == ".py" and path_of(target) == Path(target):
        raise InvalidRequest(f"TARGET: {target} is Python code; say which class is the model: {target}:ClassName")


def name_of(target: str, name: str | None) -> str:
    """Return the name ``target`` is served under: ``name``, else that of its file without the ending."""
    path = path_of(target).absolute()
    found = name or (path.name if path.is_dir() else path.stem)
    if not _NAME.fullmatch(found):
        raise InvalidRequest(f"--name: {found!r} cannot be a name (letters, digits, '.', '_' and '-', at most 128); choose one for {target}")
    return found


def names_of(targets: list[str], name: str | None) -> dict[str, str]:
    """Return the name of each target. Raises `InvalidRequest` for a missing one, and where two would have the same name."""
    if name and len(targets) != 1:
        raise InvalidRequest(f"--name: names one model, but there are {len(targets)} targets; serve them one by one, or leave --name out")
    names: dict[str, str] = {}
    for target in targets:
        check(target)
        own = name_of(target, name)
        if own in names.values():
            other = next(other for other, taken in names.items() if taken == own)
            raise InvalidRequest(f"TARGET: {other} and {target} would both be {own!r}; rename one, or deploy it with --name")
        names[target] = own
    return names
