"""Start a replica-side program in a package's own Python, which has NumPy and a framework but not Headgate.

    HEADGATE_CONFIG='{...}' python -P .../headgate/serving/bootstrap.py replica|describe|conform

Makes the package ``headgate`` importable from the folder this file lies in, and nothing else that lies beside it: the server's
other packages stay the server's. Sets the numbers of threads before anything reads them. No bytecode is written beside the model's
code, which may lie in the read-only store; environments keep theirs. Standard library only.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from importlib.abc import PathEntryFinder

_PROGRAMS = {
    "replica": "headgate.serving.replica",
    "describe": "headgate.serving.describe",
    "conform": "headgate.testing.runtimes",
}
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "TF_NUM_INTRAOP_THREADS",
)


def limit_threads(threads: int) -> None:
    """Set what the numeric libraries read when they are first imported."""
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"


def make_importable(package: Path) -> None:
    """Put the package in the folder ``package``, and nothing beside it, under the name ``headgate``."""
    spec = importlib.util.spec_from_file_location("headgate", package / "__init__.py", submodule_search_locations=[str(package)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["headgate"] = module
    spec.loader.exec_module(module)
    vars(module)["serve"] = no_server_here


def no_server_here(*_: Any, **__: Any) -> NoReturn:
    """Stand in for ``headgate.serve`` where a model is loaded: a server started there would load the file again, and so on."""
    caller = sys._getframe(1)
    raise importlib.import_module("headgate.errors").UnsupportedModel(
        f"{Path(caller.f_code.co_filename).name}, line {caller.f_lineno}: headgate.serve is called while the file is loaded as a model, so "
        "each replica would start a server of its own; nothing was served. Put the call under if __name__ == '__main__':"
    )


class CodeLoader(importlib.machinery.SourceFileLoader):
    """Loads the code of a package, which is content-addressed: a bytecode file beside it would make it another package."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write no bytecode."""


_LOADERS: tuple[tuple[Any, list[str]], ...] = (
    (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    (CodeLoader, importlib.machinery.SOURCE_SUFFIXES),
    (importlib.machinery.SourcelessFileLoader, importlib.machinery.BYTECODE_SUFFIXES),
)
"""What Python itself tries, in its order, with our loader for sources."""


def no_bytecode_below(folder: Path) -> Callable[[str], PathEntryFinder]:
    """Return an entry of `sys.path_hooks` that finds what Python would find in ``folder``, and writes no bytecode there."""
    inside = os.path.realpath(folder)
    finder = importlib.machinery.FileFinder.path_hook(*_LOADERS)

    def hook(path: str) -> PathEntryFinder:
        if not f"{os.path.realpath(path)}/".startswith(f"{inside}/"):
            raise ImportError(f"{path} is not the model's code")
        return finder(path)

    return hook


def add_code_folder(config: dict[str, Any]) -> None:
    """Put the folder of the model's code on the path: after the standard library, which it must not hide, before installed packages.

    It is the current folder, too: a relative path means a file of the package, wherever the server was started.
    """
    folder = Path(config["path"]).resolve().parent if "path" in config else Path(config.get("package", "")) / "files"
    os.chdir(folder)
    installed = (at for at, entry in enumerate(sys.path) if entry.endswith(("site-packages", "dist-packages")))
    sys.path.insert(next(installed, len(sys.path)), str(folder))
    sys.path_hooks.insert(0, no_bytecode_below(folder))


def main() -> int:
    """Run the program that the command line names."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() != here]
    if len(sys.argv) != 2 or sys.argv[1] not in _PROGRAMS:
        print(f"usage: bootstrap.py {'|'.join(_PROGRAMS)}", file=sys.stderr)
        return 2
    config = json.loads(os.environ["HEADGATE_CONFIG"])
    if config.get("threads"):
        limit_threads(int(config["threads"]))
    make_importable(here.parent)
    add_code_folder(config)
    return int(importlib.import_module(_PROGRAMS[sys.argv[1]]).main())


if __name__ == "__main__":
    sys.exit(main())
