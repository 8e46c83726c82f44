"""What a target is: which runtime loads it, what it is called, and whether loading it runs code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from headgate import plugins
from headgate.errors import NotFound, UnsupportedModel, UntrustedPickle, did_you_mean
from headgate.package.manifest import FILES, Manifest
from headgate.spec import NAME

SHELF = "headgate.runtimes"
"""Where the runtimes are."""
FOLDERS = "headgate.package.folders"
"""Where the formats of model folders are."""

_CODE = re.compile(r"(?P<path>.+\.py):(?P<attribute>[A-Za-z_]\w*)")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_ADVICE = {
    ".safetensors": "it holds weights only; export the whole model to ONNX or .pt2, or write a file.py:Class that loads it",
    ".pth": "it mostly holds weights only; export the model with torch.export.save(..., 'model.pt2')",
    ".ckpt": "it is a training checkpoint; export the model with torch.export.save(..., 'model.pt2')",
    ".h5": "save it again with model.save('model.keras')",
    ".hdf5": "save it again with model.save('model.keras')",
    ".cbm": "save it again with model.save_model('model.onnx', format='onnx')",
    ".model": "save it again with the ending .ubj, which says what it is",
    ".gguf": "Headgate does not generate text; write a file.py:Class that calls the library you use",
    ".pb": "name the SavedModel folder that it lies in",
    ".ipynb": "put the class into a .py file and name it as file.py:Class",
    ".zip": "unpack it and name what is inside",
    ".gz": "unpack it and name what is inside",
}


class Target(NamedTuple):
    """A model as it lies on the user's disk."""

    path: Path
    """The file or folder, absolute."""
    attribute: str
    """The class in Python code, else empty."""
    runtime: str
    """Name on the shelf ``headgate.runtimes``."""
    name: str
    """What the model is called, unless the user says otherwise: from the name of the file."""
    runs_code: bool
    """Loading it runs code that is hidden in a data file: a pickle."""

    @property
    def entry(self) -> str:
        """The entry of the manifest: ``fraud.onnx``, ``ranker.py:Ranker``."""
        return f"{self.path.name}:{self.attribute}" if self.attribute else self.path.name


def detect(target: str, *, trust_pickle: bool = False) -> Target:
    """Say what ``target`` (a file, a folder, ``file.py`` or ``file.py:Class``) is.

    Raises `NotFound` if there is no such file, `UnsupportedModel` if no runtime takes it or the class is not in it, and
    `UntrustedPickle` if loading it runs code and ``trust_pickle`` is not set.
    """
    path, attribute = _split(target)
    _require(path)
    runtime = _claim(path)
    kind = plugins.load(SHELF, runtime)
    if path.suffix == ".py":
        attribute = _check_class(path, attribute)
    pickled = bool(kind.runs_code(path))
    if pickled and not trust_pickle:
        raise UntrustedPickle(
            f"{path.name}: a pickle, and loading it can run any code that somebody has put into it; nothing was loaded. "
            f"{kind.safer or 'Save it in a format without code.'} If you trust where it comes from: --trust-pickle"
        )
    return Target(path, attribute, runtime, default_name(path), pickled)


def required(target: str) -> Path:
    """Return the path of the file or folder ``target``. Raises `NotFound` with the likely spelling, or `UnsupportedModel`."""
    path = Path(target).expanduser().absolute()
    _require(path)
    return path


def runs_code(manifest: Manifest, package: Path) -> bool:
    """Whether loading the package in the folder ``package`` runs code that is hidden in a data file."""
    return bool(plugins.load(SHELF, manifest.runtime).runs_code(package / FILES / manifest.entry.partition(":")[0]))


def default_name(path: Path) -> str:
    """Return the name of the model in ``path``: what the file is called, with ``-`` for what no name may hold."""
    stem = path.name if path.is_dir() else path.stem
    if path.is_dir() and stem.isdecimal():
        # TensorFlow's layout is name/1: the number is not the name.
        stem = path.parent.name
    name = _NOT_IN_NAME.sub("-", stem).lstrip("._-")[:128].rstrip("-")
    return name if NAME.fullmatch(name) else "model"


def _split(target: str) -> tuple[Path, str]:
    code = _CODE.fullmatch(target)
    if code is None or Path(target).exists():
        return Path(target).expanduser().absolute(), ""
    return Path(code["path"]).expanduser().absolute(), code["attribute"]


def _require(path: Path) -> None:
    if path.is_file():
        if path.stat().st_size == 0:
            raise UnsupportedModel(f"{path.name}: the file is empty (0 bytes), so there is no model in it; save or copy it again")
        return
    if path.is_dir():
        return
    if path.exists():
        raise UnsupportedModel(f"{path.name}: neither a file nor a folder (a pipe or device); name the model file itself")
    folder = path.parent
    if not folder.is_dir():
        raise NotFound(f"{path.name}: there is no folder {folder}, so no such model; check the path")
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    hint = did_you_mean(path.name, there) or f"; the folder has {_few(there)}"
    raise NotFound(f"{path.name}: there is no such file or folder in {folder}{hint}")


def _claim(path: Path) -> str:
    claims = [name for name, kind in plugins.load_all(SHELF) if kind.claims(path)]
    if len(claims) == 1:
        return claims[0]
    if claims:
        raise UnsupportedModel(
            f"{path.name}: {' and '.join(claims)} both take it; rename it with the ending that only one of them has"
        )
    raise UnsupportedModel(_why_nobody(path))


def _why_nobody(path: Path) -> str:
    runtimes = [kind for _, kind in plugins.load_all(SHELF)]
    if path.is_dir():
        inside = [entry.name for entry in path.iterdir() if entry.suffix.lower() in _suffixes(runtimes)]
        formats = ", ".join(kind.title for _, kind in plugins.load_all(FOLDERS))
        hint = f"; it holds {_few(inside)}: name that file" if inside else f". Known here: {formats}; TensorFlow (saved_model.pb)"
        return f"{path.name}: nobody takes this folder{hint}"
    suffix = path.suffix.lower()
    named = [kind.title for kind in runtimes if suffix in kind.suffixes]
    if named:
        return (
            f"{path.name}: named like a model of {' or '.join(named)}, but its content is not one (damaged, or half copied?); "
            "save it again"
        )
    if suffix in _ADVICE:
        return f"{path.name}: no runtime loads {suffix} files: {_ADVICE[suffix]}"
    what = f"{suffix} files" if suffix else "a file without an ending"
    return f"{path.name}: no runtime loads {what}{did_you_mean(suffix, _suffixes(runtimes)) or '.'} {_known(runtimes)}"


def _suffixes(runtimes: Iterable[Any]) -> list[str]:
    return sorted({suffix for kind in runtimes for suffix in kind.suffixes})


def _known(runtimes: Iterable[Any]) -> str:
    kinds = [f"{kind.title} ({' '.join(sorted(kind.suffixes))})" for kind in runtimes if kind.suffixes]
    return f"Known here: {', '.join(kinds)}"


def _few(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing in it"


def _check_class(path: Path, attribute: str) -> str:
    """Return the class that is the model; nothing is run to find out. Raises `UnsupportedModel`."""
    try:
        body = ast.parse(path.read_bytes(), path.name).body
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise UnsupportedModel(f"{path.name}{where}: not Python ({getattr(error, 'msg', error)}); correct it") from error
    models = [node.name for node in body if isinstance(node, ast.ClassDef) and _predicts(node)]
    if attribute:
        names = _names(body)
        if attribute not in names and "*" not in names:
            raise UnsupportedModel(
                f"{path.name}: there is no class {attribute!r} in it{did_you_mean(attribute, names) or '.'} {_offer(path, models)}"
            )
        if names.count(attribute) == 1 and _lacks_predict(body, attribute):
            raise UnsupportedModel(f"{path.name}:{attribute} has no method predict(self, ...)")
        return attribute
    public = [name for name in models if not name.startswith("_")]
    if len(public) != 1:
        count = "no class with a method predict" if not public else f"{len(public)} classes with a method predict"
        raise UnsupportedModel(f"{path.name}: {count} in it, so it does not say which is the model. {_offer(path, public)}")
    return public[0]


def _offer(path: Path, models: list[str]) -> str:
    if not models:
        return f"Write a class with load() and predict(), and name it as {path.name}:ClassName"
    return f"Name it as {' or '.join(f'{path.name}:{name}' for name in models[:5])}"


def _predicts(node: ast.ClassDef) -> bool:
    return any(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == "predict" for item in node.body)


def _lacks_predict(body: list[ast.stmt], name: str) -> bool:
    """Whether the class ``name`` can have no ``predict``; not where a base, decorator or metaclass may give it one that is not here."""
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    if any(_gives_predict(node) for node in body if not isinstance(node, ast.ClassDef)):
        return False
    pending = [name]
    while pending:
        node = classes.pop(pending.pop(), None)  # once: text can have circles
        if node is None or node.decorator_list or node.keywords or _gives_predict(node):
            return False
        bases = [base.id if isinstance(base, ast.Name) else "?" for base in node.bases]
        pending += [base for base in bases if base != "object"]
    return True


def _gives_predict(node: ast.stmt) -> bool:
    """Whether anything in ``node`` defines, assigns or imports a ``predict``, or names it in a string, as `setattr` does."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute | ast.Name) and not isinstance(inner.ctx, ast.Store):
            continue
        if "predict" in (getattr(inner, word, None) for word in ("name", "asname", "id", "attr", "value")):
            return True
    return False


def _names(body: list[ast.stmt]) -> list[str]:
    """Return what the module's top level defines, assigns or imports; ``*`` where an import does not say."""
    names: list[str] = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.If | ast.Try):
            names += _names(
                [*node.body, *node.orelse, *(item for handler in getattr(node, "handlers", []) for item in handler.body)]
            )
    return names
