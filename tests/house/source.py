"""The source of Headgate as these tests read it: modules, their imports, and where each import stands."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"


class Import(NamedTuple):
    """One import statement's target."""

    target: str
    """Dotted name of the module: the submodule where ``from package import submodule`` names one."""
    line: int
    lazy: bool
    """Inside a function: it costs nothing until the function runs."""
    typing: bool
    """Under ``if TYPE_CHECKING``: it never runs, but it is an arrow of the design all the same."""


class Module(NamedTuple):
    """One source file."""

    name: str
    """Dotted: ``headgate.serving.link``; a package's ``__init__`` has the package's name."""
    path: Path
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def inner(self) -> str:
        """The name below ``headgate``: ``serving.link``; empty for the package itself."""
        return self.name.removeprefix("headgate").removeprefix(".")

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


@functools.cache
def modules() -> tuple[Module, ...]:
    """Return every module of Headgate."""
    paths = {_name(path): path for path in sorted((SOURCE / "headgate").rglob("*.py"))}
    return tuple(_module(name, path, frozenset(paths)) for name, path in paths.items())


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module(name: str, path: Path, known: frozenset[str]) -> Module:
    tree = ast.parse(path.read_text(), str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return Module(name, path, tree, tuple(_imports(tree, package, known, lazy=False, typing=False)))


def _imports(node: ast.AST, package: str, known: frozenset[str], *, lazy: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, lazy, typing)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, package)
            for target in {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in child.names}:
                yield Import(target, child.lineno, lazy, typing)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from _imports(ast.Module(child.body, []), package, known, lazy=lazy, typing=True)
            yield from _imports(ast.Module(child.orelse, []), package, known, lazy=lazy, typing=typing)
        else:
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, package, known, lazy=inside, typing=typing)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def foreign(target: str) -> str | None:
    """Return the distribution's top-level module of ``target``, or None for Headgate and the standard library."""
    top = target.partition(".")[0]
    return None if top == "headgate" or top in sys.stdlib_module_names else top


def qualified(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield every node below ``tree`` with the qualified name of the function or class it stands in."""
    for child in ast.iter_child_nodes(tree):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        inner = f"{prefix}.{child.name}".lstrip(".") if named else prefix
        yield inner, child
        yield from qualified(child, inner)
