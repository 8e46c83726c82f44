"""Finding what is on a shelf.

A shelf is a package such as ``headgate.runtimes``. Every module in it except ``base`` is a plugin, found by listing the folder, so
that a new feature is one new file and no list of names stands anywhere. Other distributions add theirs by an entry point in the
group of the same name as the shelf (``headgate.runtimes``). Listing imports nothing; loading imports the one module asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator
from functools import cache
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
    entry = _entry_points(shelf).get(name)
    if entry is not None:
        return entry.load()
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
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define exactly one public subclass of {contract.__name__}, it has {len(found)}")
    return found[0]


def load_all(shelf: str) -> Iterator[tuple[str, Any]]:
    """Yield ``(name, class)`` of every plugin on ``shelf``."""
    for name in names(shelf):
        yield name, load(shelf, name)


@cache
def _entry_points(shelf: str) -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=shelf)}
