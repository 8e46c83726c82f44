"""The contract of a folder format: how another tool's model folder becomes what packages are made of.

A format is one plugin on this shelf. It says whether a path is its own, and turns it into models, each with its versions and, where
the folder says so, labels and settings. It neither loads nor runs anything: `headgate.package.build` does that, with what it is given
here. Whatever in the folder is not honoured is refused, or named in a warning; nothing is ignored silently.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec
import yaml

from headgate.errors import PackageError, did_you_mean

Say = Callable[[str], None]
"""Told what is being done, one line at a time."""


class VersionSource(msgspec.Struct, frozen=True, kw_only=True):
    """What one package is made of."""

    title: str
    """What is loaded, as messages call it: ``wine.onnx``."""
    runtime: str
    """Name on the shelf ``headgate.runtimes``."""
    entry: str
    """Path of the model below ``files/``; for a class in Python code ``ranker.py:Ranker``. Its folder must be ``files/`` itself."""
    files: Mapping[str, Path | bytes]
    """The files by their path below ``files/``: where each lies, or what is in it."""
    origin: str
    """Whose folder it is: the manifest's ``origin``, which also decides the dialect of the ``/v1`` paths."""
    requirements: str | None = None
    """Text of a requirements file without local paths; None: the server's own Python runs the model."""
    python: str | None = None
    """``3.11``: the Python the model was made with, where the folder says so."""
    example: bytes | None = None
    """JSON as `headgate.package.example` describes it: must run when the package is made, and whenever a replica starts."""
    answers: str = ""
    """How whole tables of answers are laid out: see `headgate.package.signature.Signature.answers`."""
    labels: Mapping[str, tuple[str, ...]] = {}
    """By name of an output, what its classes are called: see `headgate.package.signature.TensorSpec.labels`."""
    config: Mapping[str, Any] = {}
    """What is shown of the model's own configuration, in its tool's words, to clients that ask for it."""
    runs_code: bool = False
    """Loading it runs code that is hidden in a data file: a pickle."""
    number: int | None = None
    """The version's number in the folder, where clients may ask for it; None: the next one."""
    note: str = ""
    """Where it comes from, for the list of versions."""


class ModelSource(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a folder."""

    name: str
    """As the folder calls it; legal as a model's name."""
    versions: tuple[VersionSource, ...]
    """At least one; the last is what is deployed."""
    aliases: Mapping[str, int] = {}
    """Label -> number of one of the versions."""
    settings: Mapping[str, Any] = {}
    """What the folder asks of the deployment, as (partial) fields of `headgate.spec.DeploymentSpec`; versions that stay live besides the
    deployed one are ``also``."""
    warnings: tuple[str, ...] = ()
    """A sentence for each field that is not honoured, with its path."""


class Asked(NamedTuple):
    """What the user says that a format must know."""

    name: str
    """For a model that the folder does not name."""
    trust_pickle: bool = False
    requirements: bool = False
    """The user gives the requirements: those of the folder do not matter."""


class Fetched(NamedTuple):
    """What an address led to."""

    path: Path
    name: str
    """Of the model, where the folder does not say."""
    note: str
    """The address, for the list of versions."""


class Folder(ABC):
    """One format of model folders."""

    title: ClassVar[str]
    """For people, with what it is known by: ``MLflow model (MLmodel)``."""
    schemes: ClassVar[frozenset[str]] = frozenset()
    """Of addresses that `fetch` takes: ``models`` of ``models:/wine@champion``."""

    @classmethod
    @abstractmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is such a folder (or a file that describes one), judged cheaply."""

    @classmethod
    @abstractmethod
    def adapt(cls, path: Path, asked: Asked) -> tuple[ModelSource, ...]:
        """Return the models in ``path``, which this format claims.

        Raises `UnsupportedModel` with one sentence for what cannot be honoured, naming the file and the field; `PackageError` for
        what makes no sense; `UntrustedPickle` where loading a model runs hidden code and ``asked.trust_pickle`` is not set.
        """

    @classmethod
    def fetch(cls, address: str, into: Path, say: Say) -> Fetched:
        """Bring what ``address`` (of one of ``schemes``) names into the empty folder ``into``. Raises `HeadgateError`."""
        raise NotImplementedError(f"{cls.title} folders have no addresses")


CONTRACT = Folder


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without Python objects, in which a key that comes twice is an error: the first would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping. Raises `ConstructorError` for a key that is there twice."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is there twice", key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return dict(super().construct_mapping(node, deep))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML file at ``path``. Raises `PackageError` naming the file, and the line where there is one."""
    value = read_yaml_value(path)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise PackageError(f"{path.name}: expected keys with values, got {type(value).__name__}; correct it")
    return value


def read_yaml_value(path: Path) -> Any:
    """Return what the YAML file at ``path`` holds. Raises as `read_yaml` does."""
    with _refusing(path.name):
        return yaml.load(path.read_bytes(), _Loader)  # noqa: S506  (a SafeLoader)


def read_yaml_documents(data: bytes, name: str) -> list[Any]:
    """Return every document of ``data``, which people know as ``name``. Raises as `read_yaml` does."""
    with _refusing(name):
        return list(yaml.load_all(data, _Loader))


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise PackageError(f"{name}{line}: no YAML: {getattr(error, 'problem', None) or error}; correct it") from error


def unknown_key(where: str, key: str, known: Mapping[str, Any]) -> PackageError:
    """Return the refusal of a key that nobody knows, with the likely spelling; ``where`` is the file and the path to it."""
    return PackageError(f"{where}{key}: there is no such key{did_you_mean(key, known) or '.'} Correct it, or leave it out")
