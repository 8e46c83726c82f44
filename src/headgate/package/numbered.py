"""Folders of numbered versions, ``fraud/1``, ``fraud/2``, and which of them are served: TensorFlow Serving and Triton share both.

Policies are written the same by both: the newest ``latest { num_versions }`` (1 unless said), ``all``, or ``specific { versions }``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from headgate.errors import PackageError

_NUMBER = re.compile(r"[1-9][0-9]*")
_PADDED = re.compile(r"0*[1-9][0-9]*")
LARGEST = (1 << 63) - 1
"""Version numbers are signed 64-bit integers everywhere."""


def numbered(folder: Path, *, padded: bool = False) -> dict[int, Path]:
    """Return the folders in ``folder`` that are called by a number of at least 1, ascending.

    ``padded``: zeros may lead (``00000123``). Raises `PackageError` where two are the same number.
    """
    pattern = _PADDED if padded else _NUMBER
    found: dict[int, Path] = {}
    for entry in sorted(folder.iterdir()):
        if not pattern.fullmatch(entry.name) or len(entry.name.lstrip("0")) > 19 or int(entry.name) > LARGEST or not entry.is_dir():
            continue
        other = found.setdefault(int(entry.name), entry)
        if other is not entry:
            raise PackageError(f"{folder.name}: {other.name} and {entry.name} are the same version; remove one of them")
    return {number: found[number] for number in sorted(found)}


def misnumbered(folder: Path, there: Mapping[int, Path]) -> list[str]:
    """Return the names of folders that look like versions and are not among those that are there: ``0``, ``01``. Sorted."""
    versions = {path.name for path in there.values()}
    return sorted(
        entry.name for entry in folder.iterdir() if entry.name.isdecimal() and entry.name not in versions and entry.is_dir()
    )


def served(policy: Any, there: Collection[int], where: str) -> tuple[int, ...]:
    """Return the versions that ``policy`` serves of those that are there; ascending, never none.

    ``policy`` is a message with one ``policy_choice``; None is the newest version.

    Raises `PackageError`, beginning with ``where``, if none is there, or one that is asked for by its number is not.
    """
    have = sorted(there)
    if not have:
        raise PackageError(f"{where}: there is no version in it: a folder called 1, 2, ... with a model; nothing was done")
    choice = policy.WhichOneof("policy_choice") if policy is not None else None
    if choice == "all":
        return tuple(have)
    if choice == "specific":
        wanted = sorted(set(policy.specific.versions))
        missing = [number for number in wanted if number not in there]
        if missing or not wanted:
            what = f"asks for {missing}" if missing else "names no version"
            raise PackageError(f"{where}: the version policy 'specific' {what}, and there are {have}; correct one of them")
        return tuple(wanted)
    return tuple(have[-max(1, policy.latest.num_versions if policy is not None else 1) :])


def left_out(there: Collection[int], live: Collection[int]) -> list[str]:
    """Return a sentence on the versions that the policy leaves out, if there are any."""
    rest = sorted(set(there) - set(live))
    if not rest:
        return []
    some = f"{rest[:5]}" + (" and others" if len(rest) > 5 else "")
    return [f"of the versions there, {some} are left out: the version policy serves {sorted(live)}"]
