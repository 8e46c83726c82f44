"""Which files go along with Python code: the local modules that it imports, and what the user includes.

Imports are read, never run. What is neither imported nor included stays at home: so no secret, notebook or data set is swept in.
"""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Iterable, Iterator
from pathlib import Path

from headgate.errors import NotFound, PackageError, UnsupportedModel, did_you_mean

_LEFT_OUT = frozenset({"__pycache__", "node_modules"})
_SECRETS = (
    "*.key", "*.pem", "*.p12", "*.pfx", "*.kdbx", "*.jks", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.env",
    "credentials", "credentials.*", "secret", "secret.*", "secrets", "secrets.*", "service-account*.json",
)  # fmt: skip
"""Names of files that are hardly ever meant when a folder is included."""


def code_files(entry: Path, include: Iterable[Path] = ()) -> dict[str, Path]:
    """Return what belongs to the module ``entry``, by the path below ``files/``: itself, local modules it imports, and ``include``.

    An included path keeps its place relative to the folder of ``entry``; one from elsewhere is put beside the code. Of an included
    folder, hidden files and caches are left out. Raises `NotFound` for an include that is not there, and `PackageError` for links
    that lead out of the folder, for files in an included folder that look like secrets, and for two files of the same path.
    """
    files = _imported(entry)
    for path in include:
        for name, source in included(path, entry.parent).items():
            if files.setdefault(name, source).resolve() != source.resolve():
                raise PackageError(f"--include {path}: {name} is in the package already, from {files[name]}; rename one of them")
    return dict(sorted(files.items()))


def included(path: Path, root: Path) -> dict[str, Path]:
    """Return the files of one ``--include``, by their path below ``files/``. Raises as `code_files` says."""
    path, root = path.expanduser().absolute(), root.resolve()
    if not path.exists():
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise NotFound(f"--include {path}: there is no such file or folder{did_you_mean(path.name, there)}")
    # The folder may itself be reached through a link; the file must not be one that leads elsewhere.
    place = path.parent.resolve() / path.name
    inside = place.is_relative_to(root)
    prefix = place.relative_to(root).as_posix() if inside else path.name
    border = root if inside else place if path.is_dir() else place.parent
    if place == root:
        prefix = ""
    if path.is_file():
        return {prefix: _within(place, border)}
    return {f"{prefix}/{name}".lstrip("/"): source for name, source in _folder(place, border)}


def _folder(folder: Path, border: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(_within(folder, border).iterdir()):
        if path.name.startswith(".") or path.name in _LEFT_OUT:
            continue
        _within(path, border)
        if path.is_dir() and path.is_symlink():
            raise PackageError(f"{path}: a link to a folder; include the folder itself")
        if path.is_dir():
            yield from ((f"{path.name}/{name}", source) for name, source in _folder(path, border))
        elif any(fnmatch.fnmatchcase(path.name.lower(), pattern) for pattern in _SECRETS):
            raise PackageError(
                f"{path}: looks like a secret, so the folder is refused; move it away, or name that very file with --include"
            )
        else:
            yield path.name, path


def _within(path: Path, border: Path) -> Path:
    """Return ``path`` if it is a file or folder that lies, with all links followed, below ``border``."""
    target = path.resolve()
    if not target.is_relative_to(border.resolve()):
        raise PackageError(f"{path}: a link that leads out of {border}; put the file itself there")
    if not target.is_file() and not target.is_dir():
        raise PackageError(f"{path}: neither a file nor a folder (a pipe, device or broken link); leave it out")
    return path


def _imported(entry: Path) -> dict[str, Path]:
    """Return ``entry`` and, by their path relative to its folder, the modules beside it that it imports, and so on."""
    root = entry.parent
    files = {entry.name: entry}
    pending = [(entry, "")]
    while pending:
        path, package = pending.pop()
        for module in _imports(path, package):
            for found in _module_files(root, module):
                name = found.relative_to(root).as_posix()
                if name not in files:
                    files[name] = _within(found, root)
                    inner = found.relative_to(root).parent
                    pending.append((found, ".".join(inner.parts)))
    return files


def _imports(path: Path, package: str) -> Iterator[str]:
    """Yield the dotted names of everything that the module at ``path``, which lies in ``package``, may import, wherever it does."""
    try:
        tree = ast.parse(path.read_bytes(), path.name)
    except (SyntaxError, ValueError) as error:
        raise UnsupportedModel(f"{path.name}: not Python ({error}); correct it") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*filter(None, above), *filter(None, [node.module])])
            # What follows "import" may be a module too.
            yield from (base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names))


def _module_files(root: Path, module: str) -> Iterator[Path]:
    """Yield the files below ``root`` that importing ``module`` runs: those of its packages, and its own."""
    folder = root
    for part in filter(None, module.split(".")):
        if (folder / f"{part}.py").is_file() and not (folder / part / "__init__.py").is_file():
            yield folder / f"{part}.py"
            return
        folder = folder / part
        if not folder.is_dir():
            return
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"
