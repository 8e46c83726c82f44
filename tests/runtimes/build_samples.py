"""Make the samples of one runtime: ``python -P build_samples.py RUNTIME FOLDER``, in the environment of its framework.

``samples/RUNTIME.py`` has one function, ``build(folder)``, which trains models and writes samples. It bears the framework's name, so
it is loaded by path: on the path of imports it would hide the framework.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "src" / "headgate"


def _load(name: str, path: Path, **places: list[str]) -> object:
    spec = importlib.util.spec_from_file_location(name, path, **places)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    runtime, folder = sys.argv[1], Path(sys.argv[2])
    _load("headgate", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)])
    _load(f"sample_{runtime}", HERE / "samples" / f"{runtime}.py").build(folder)  # type: ignore[attr-defined]
