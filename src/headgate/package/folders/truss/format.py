"""Truss folders: ``config.yaml``, a class in ``model/model.py``, ``packages/``, ``data/``.

Source: truss 0.18 (base/truss_config.py, contexts/image_builder, templates/server). The class is run by `headgate.runtimes.truss`, which
is told by ``truss.json`` what config.yaml says: where a model runs there may be no YAML.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headgate.errors import NotFound, PackageError, UnsupportedModel, did_you_mean
from headgate.package.detect import default_name
from headgate.package.environment import check_requirement, read_requirements
from headgate.package.folder import regular_files
from headgate.package.folders.base import Asked, Folder, ModelSource, VersionSource, read_yaml, read_yaml_value
from headgate.package.folders.truss.keys import DEFAULTS, check
from headgate.spec import NAME

CONFIG = "config.yaml"
ENTRY = "truss.json"
"""What `headgate.runtimes.truss` loads."""
DATA = "data"
"""Where the data are in a running Truss, whatever the folder calls them."""

_MARKS = frozenset(
    {"model_name", "model_class_name", "model_module_dir", "model_metadata", "docker_server", "trt_llm", "python_version"}
)
_PYTHON = re.compile(r"py(3)(\d+)")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LEFT_OUT = frozenset({"__pycache__", ".git", ".DS_Store"})
_IN_THE_IMAGE = {
    "aiofiles": "aiofiles", "aiohttp": "aiohttp", "fastapi": "fastapi", "httpx": "httpx", "joblib": "joblib", "loguru": "loguru",
    "msgpack": "msgpack", "msgpack_numpy": "msgpack-numpy", "numpy": "numpy", "prometheus_client": "prometheus-client",
    "psutil": "psutil", "pydantic": "pydantic", "requests": "requests", "starlette": "starlette", "uvicorn": "uvicorn",
    "websockets": "websockets", "yaml": "pyyaml",
}  # fmt: skip
"""Module -> distribution, of what Truss's own server brings, so that models import it without naming it."""

_UNCALLED = {
    "chat_completions": "/v1/chat/completions is not offered",
    "completions": "/v1/completions is not offered",
    "embeddings": "/v1/embeddings is not offered",
    "is_healthy": "a replica is ready when it has loaded, and replaced when it hangs or dies",
    "messages": "/v1/messages is not offered",
    "responses": "/v1/responses is not offered",
    "setup_environment": "environments are Baseten's; a deployment here has a name",
}
"""Methods of a Truss that nobody calls here, and why."""


class TrussFolder(Folder):
    """A folder with a ``config.yaml`` and a class with ``predict`` in ``model/model.py``."""

    title = "Truss (config.yaml, model/model.py)"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` has a config.yaml and a model folder, or one with keys that only a Truss has."""
        if not path.is_dir():
            return False
        config = path / CONFIG if (path / CONFIG).is_file() else path / "config.yml"
        if not config.is_file():
            return False
        keys = re.findall(r"^([a-z_]+):", config.read_text(errors="replace"), re.MULTILINE)
        return (path / "model" / "model.py").is_file() or bool(_MARKS & set(keys))

    @classmethod
    def adapt(cls, path: Path, asked: Asked) -> tuple[ModelSource, ...]:
        """Return the one model in the folder."""
        if not (path / CONFIG).is_file():
            raise UnsupportedModel("config.yml: a Truss is described by config.yaml; rename it")
        given = read_yaml(path / CONFIG)
        warnings = check(given)
        config = {**DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
        _check_types(config)
        files = dict(_files(path, config))
        code = [file for name, file in files.items() if name.endswith(".py") and isinstance(file, Path)]
        requirements, added = _requirements(path, config, code) if not asked.requirements else (None, ())
        source = VersionSource(
            title=path.name,
            runtime="truss",
            entry=ENTRY,
            files={**files, ENTRY: _entry(config)},
            origin="truss",
            requirements=requirements,
            python=_python(config),
            example=_example(path, config),
        )
        concurrency = _concurrency(config)
        model = ModelSource(
            name=_name(config) or default_name(path),
            versions=(source,),
            settings={"batching": {"max_rows": concurrency}},
            warnings=(*warnings, *_kept_secrets(config), *added, *_uncalled(path, config), *_ignores(path)),
        )
        return (model,)


# ---- what config.yaml says


def _check_types(config: Mapping[str, Any]) -> None:
    wanted = {"requirements": list, "external_package_dirs": list, "environment_variables": dict, "secrets": dict, "runtime": dict}
    texts = (
        "model_module_dir",
        "model_class_filename",
        "model_class_name",
        "bundled_packages_dir",
        "data_dir",
        "examples_filename",
    )
    for key, kind in (wanted | dict.fromkeys(texts, str)).items():
        if not isinstance(config[key], kind):
            words = {list: "a list", dict: "keys with values", str: "text"}[kind]
            raise PackageError(f"{CONFIG}: {key}: expected {words}, got {str(config[key])[:80]!r}; correct it")


def _concurrency(config: Mapping[str, Any]) -> int:
    value = config["runtime"].get("predict_concurrency", 1)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise PackageError(
            f"{CONFIG}: runtime.predict_concurrency: expected a whole number of at least 1, got {value!r}; correct it"
        )
    return value


def _name(config: Mapping[str, Any]) -> str | None:
    name = config["model_name"]
    if name is None:
        return None
    if NAME.fullmatch(str(name)):
        return str(name)
    return default_name(Path(f"{str(name).replace('/', '-')}.name"))


def _python(config: Mapping[str, Any]) -> str | None:
    version = config["python_version"]
    if version is None:
        return None
    match = _PYTHON.fullmatch(str(version))
    if match is None:
        raise PackageError(f"{CONFIG}: python_version: expected py311 or the like, got {version!r}; correct it")
    return f"{match[1]}.{match[2]}"


def _entry(config: Mapping[str, Any]) -> bytes:
    """Return what the runtime is told: config.yaml, defaults filled in, and where things are in the package."""
    variables = {
        key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in config["environment_variables"].items()
    }
    told = {
        "config": config,
        "module": f"{config['model_module_dir']}/{config['model_class_filename']}",
        "class": config["model_class_name"],
        "packages": config["bundled_packages_dir"],
        "data": DATA,
        "environment": variables,
        "secrets": config["secrets"],
        "concurrency": _concurrency(config),
    }
    return json.dumps(told, indent=1, sort_keys=True, default=str).encode()


def _kept_secrets(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config["secrets"].items():
        if value:
            yield (
                f"{CONFIG}: secrets.{key} has a value, which stays in the package for ever: write null, and set TRUSS_SECRET_{key} where "
                "'headgate serve' is started"
            )


# ---- what goes along


def _files(path: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the files of a Truss by where they are in a running one."""
    yield CONFIG, path / CONFIG
    module = config["model_module_dir"]
    model = path / module / config["model_class_filename"]
    if not model.is_file():
        there = [file.name for file in (path / module).iterdir()] if (path / module).is_dir() else []
        raise NotFound(f"{CONFIG}: there is no {module}/{model.name}, the model's class{did_you_mean(model.name, there)}; write it")
    yield from _below(path / module, module)
    packages = config["bundled_packages_dir"]
    taken: dict[str, Path] = {}
    folders = [(packages, path / packages)]
    folders += [("external_package_dirs", path / str(folder)) for folder in config["external_package_dirs"]]
    for key, folder in folders:
        if not folder.is_dir():
            if key == packages:
                continue
            raise NotFound(f"{CONFIG}: external_package_dirs: there is no folder {folder}; correct it")
        for name, file in _below(folder, packages):
            if taken.setdefault(name, file) != file:
                raise PackageError(f"{CONFIG}: external_package_dirs: {name} is there twice, {taken[name]} and {file}; rename one")
    yield from taken.items()
    if (path / config["data_dir"]).is_dir():
        yield from _below(path / config["data_dir"], DATA)


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for name, file in regular_files(folder).items():
        if not _LEFT_OUT & set(name.split("/")):
            yield f"{prefix}/{name}", file


def _uncalled(path: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Name the methods of the class that Truss's server would call, and nobody does here."""
    file, name = path / config["model_module_dir"] / config["model_class_filename"], config["model_class_name"]
    for node in _parsed(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            defined = [item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
            yield from (
                f"{file.name}: {name}.{method} is not called: {_UNCALLED[method]}" for method in defined if method in _UNCALLED
            )


def _ignores(path: Path) -> tuple[str, ...]:
    listed = (path / ".truss_ignore").is_file()
    return (".truss_ignore is not honoured: the model's folder, packages and data go along as they are",) if listed else ()


# ---- what it needs


def _requirements(path: Path, config: Mapping[str, Any], code: Iterable[Path]) -> tuple[str | None, tuple[str, ...]]:
    """Return the text of a requirements file, with what the code takes from Truss's own image, and what to say of that."""
    file = config["requirements_file"]
    if config["requirements"] and file:
        raise PackageError(f"{CONFIG}: requirements and requirements_file are both set; leave one of them out")
    if file:
        if Path(str(file)).name in ("pyproject.toml", "uv.lock"):
            raise UnsupportedModel(
                f"{CONFIG}: requirements_file: {file} is not read here; write its requirements into a requirements.txt (uv export)"
            )
        text = read_requirements(path / str(file))
    else:
        lines = [str(line).strip() for line in config["requirements"]]
        for at, line in enumerate(lines):
            check_requirement(line, f"{CONFIG}: requirements[{at}]")
        text = "".join(f"{line}\n" for line in lines if line)
    if not text.strip():
        return None, ()
    named = {_normal(match[0]) for line in text.splitlines() if (match := _DISTRIBUTION.match(line.strip()))}
    imported = {name for source in code for name in _imported(source)}
    added = sorted(_IN_THE_IMAGE[name] for name in imported & _IN_THE_IMAGE.keys() if _normal(_IN_THE_IMAGE[name]) not in named)
    said = f"{CONFIG}: requirements: {', '.join(added)} added, which the code imports and Truss's own image has"
    return text + "".join(f"{name}\n" for name in added), (said,) if added else ()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(source: Path) -> Iterator[str]:
    """Yield the top-level names of what a module imports."""
    for node in ast.walk(_parsed(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _parsed(source: Path) -> ast.Module:
    try:
        return ast.parse(source.read_bytes(), source.name)
    except (SyntaxError, ValueError) as error:
        raise UnsupportedModel(f"{source.name}: not Python ({error}); correct it") from error


# ---- its example


def _example(path: Path, config: Mapping[str, Any]) -> bytes | None:
    """Return the first example of the folder, as a request with the model's one input."""
    file = path / config["examples_filename"]
    metadata = config["model_metadata"]
    listed = read_yaml_value(file) if file.is_file() else None
    if listed:
        value = _first_input(listed, file.name)
    elif isinstance(metadata, dict) and "example_model_input" in metadata:
        value = metadata["example_model_input"]
    else:
        return None
    tensor = {"name": "model_input", "datatype": "BYTES", "shape": [1], "data": [json.dumps(value, default=str)]}
    return json.dumps({"inputs": [tensor]}).encode()


def _first_input(listed: Any, name: str) -> Any:
    if not isinstance(listed, list) or not isinstance(listed[0], dict) or "input" not in listed[0]:
        raise PackageError(f"{name}: expected a list of examples with a name and an input; correct it, or remove it")
    return listed[0]["input"]
