"""Finding what is on a shelf.

A shelf is a package such as ``headgate.runtimes``. Every module in it except ``base`` is a plugin, found by listing the folder, so
that a new feature is one new file and no list of names stands anywhere. Other distributions add theirs by an entry point in the
group of the same name as the shelf (``headgate.runtimes``). Listing imports nothing; loading imports the one module asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from headgate.errors import Unsupported, did_you_mean


@cache
def names(shelf: str) -> tuple[str, ...]:
    """Return the names of the plugins on ``shelf`` (``'headgate.runtimes'``), sorted, without importing them."""
    package = importlib.import_module(shelf)
    own = {module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "base"}
    return tuple(sorted(own | set(_entry_points(shelf))))


@cache
def load(shelf: str, name: str) -> Any:
    """Import the plugin ``name`` of ``shelf`` and return its class: the subclass of the shelf's base that the module defines.

    Raises `Unsupported` with the likely spelling if there is none of that name.
    """
    found = _classes(shelf, name)
    if len(found) != 1:
        raise TypeError(f"{shelf}.{name} must define exactly one public plugin class, it has {len(found)}")
    return found[0]


@cache
def _classes(shelf: str, name: str) -> tuple[Any, ...]:
    entry = _entry_points(shelf).get(name)
    if entry is not None:
        return (entry.load(),)
    if name not in names(shelf):
        known = names(shelf)
        raise Unsupported(f"there is no {name!r} in {shelf}{did_you_mean(name, known) or '.'} It has: {', '.join(known)}")
    module = importlib.import_module(f"{shelf}.{name}")
    base = importlib.import_module(f"{shelf}.base")
    contract = base.CONTRACT
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, contract)
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
        and not value.__name__.startswith("_")
    ]
    if not found:
        raise TypeError(f"{module.__name__} must define a public subclass of {contract.__name__}, it has none")
    return tuple(found)


def load_all(shelf: str) -> Iterator[tuple[str, Any]]:
    """Yield ``(name, class)`` of every plugin on ``shelf``; a plugin that speaks over several transports has a class for each."""
    for name in names(shelf):
        for kind in _classes(shelf, name):
            yield name, kind


def install_command(extra: str, otherwise: str) -> str:
    """Return the command that installs what Headgate's ``extra`` brings; ``otherwise`` where Headgate's own metadata is not at hand.

    It names the requirements, not ``headgate[extra]``: those can be had wherever Headgate itself came from.
    """
    return shlex.join(["pip", "install", *(requirements(extra) or [otherwise])])


def requirements(extra: str) -> list[str]:
    """Return what Headgate's ``extra`` requires, such as ``onnxruntime>=1.18``; nothing where Headgate's own metadata is not at hand."""
    beside = str(Path(__file__).resolve().parents[1])  # the replica's side runs in environments that do not hold Headgate
    found = next(iter(importlib.metadata.Distribution.discover(name="headgate", path=[beside, *sys.path])), None)
    marked = [line.partition(";") for line in (found.requires if found else None) or ()]
    return [requirement for requirement, _, marker in marked if re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", marker)]


@cache
def _entry_points(shelf: str) -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=shelf)}
