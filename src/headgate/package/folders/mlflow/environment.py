"""What an MLflow model folder says of its environment: ``requirements.txt``, else the pip part of ``conda.yaml``.

Source: mlflow 3.17, utils/environment.py. MLflow writes the same requirements three times: ``requirements.txt``, ``conda.yaml`` (which may
name conda packages besides) and ``python_env.yaml`` (which names the Python).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headgate.errors import EnvironmentFailed, PackageError
from headgate.package.environment import check_requirement, read_requirements
from headgate.package.folders.base import read_yaml
from headgate.package.manifest import REQUIREMENTS

_PYTHON = re.compile(r"(?:python\s*[=<>~!]*\s*)?(?P<minor>3\.\d+)(?:\.\d+)?")
_FROM_CONDA = re.compile(r"(?:[\w./-]+::)?(?:python|pip|setuptools|wheel)\b.*")
"""What every conda environment has, and every environment here."""
_BUILD_TOOLS = re.compile(r"(?:pip|setuptools|wheel)\b.*")


class Requirements(NamedTuple):
    """The environment that a folder asks for."""

    requirements: str | None
    """Text of a requirements file; None: it names nothing."""
    python: str | None
    """``3.11``."""
    warnings: tuple[str, ...] = ()


def read(folder: Path, pyfunc: Mapping[str, Any]) -> Requirements:
    """Return what the files of ``folder`` ask for. Raises `EnvironmentFailed` for what pip cannot install, `PackageError` for nonsense."""
    env = pyfunc.get("env")
    named = env if isinstance(env, dict) else {"conda": env}
    conda = _read(folder, named.get("conda") or "conda.yaml")
    virtual = _read(folder, named.get("virtualenv") or "python_env.yaml")
    pip = _pip_of(conda)
    if (folder / REQUIREMENTS).is_file():
        text: str | None = read_requirements(folder / REQUIREMENTS)
    else:
        text = "".join(f"{line}\n" for line in pip) if pip else None
    python = virtual.get("python") or _conda_python(conda) or pyfunc.get("python_version")
    tools = [str(tool) for tool in virtual.get("build_dependencies") or () if not _BUILD_TOOLS.fullmatch(str(tool))]
    said = (
        (f"python_env.yaml: build_dependencies ({', '.join(tools)}) are not honoured: packages are built apart",) if tools else ()
    )
    return Requirements(text, _minor(python), said)


def _read(folder: Path, name: Any) -> dict[str, Any]:
    path = folder / str(name)
    return read_yaml(path) if path.is_file() else {}


def _pip_of(conda: Mapping[str, Any]) -> list[str]:
    """Return the pip requirements in a conda.yaml. Raises `EnvironmentFailed` for packages that only conda can install."""
    listed = conda.get("dependencies") or []
    if not isinstance(listed, list):
        raise PackageError(f"conda.yaml: dependencies: expected a list, got {type(listed).__name__}")
    pip: list[str] = []
    for at, entry in enumerate(listed):
        where = f"conda.yaml: dependencies[{at}]"
        if isinstance(entry, dict) and set(entry) == {"pip"} and isinstance(entry["pip"], list):
            pip += [str(line) for line in entry["pip"]]
        elif not isinstance(entry, str) or not _FROM_CONDA.fullmatch(entry.strip()):
            raise EnvironmentFailed(
                f"{where}: {str(entry)[:80]!r} is a package of conda's, and environments here are made with pip: name what replaces it "
                "in a requirements file, --requirements FILE"
            )
    for line in pip:
        check_requirement(line, "conda.yaml: pip")
    return pip


def _conda_python(conda: Mapping[str, Any]) -> str | None:
    words = [str(entry) for entry in conda.get("dependencies") or () if str(entry).startswith("python")]
    return words[0] if words else None


def _minor(python: Any) -> str | None:
    match = _PYTHON.fullmatch(str(python).strip()) if python else None
    return match["minor"] if match else None
