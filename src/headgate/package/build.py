"""From a target to a package folder: gather the files, lock what they need, load the model once, and write the manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from headgate.errors import PackageError
from headgate.home import Home
from headgate.package import environment
from headgate.package.code import code_files, included
from headgate.package.describe import BOOTSTRAP, Description, Question, describe
from headgate.package.detect import Target, detect
from headgate.package.example import read_example
from headgate.package.external import external_files
from headgate.package.folder import regular_files
from headgate.package.manifest import EXAMPLE, FILES, LOCK, MANIFEST, REQUIREMENTS, Manifest, check_paths, hash_file
from headgate.package.signature import Signature
from headgate.spec import check_name

DESCRIBE_SECONDS = 300.0
"""How long loading the model and running it once may take."""

Known = Callable[[str], str | None]
"""Source digest -> digest of the package made from the same before, or None."""
Say = Callable[[str], None]
"""Told what is being done, one line at a time."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the user says about a target."""

    name: str | None = None
    """Of the model; None: from the name of the file."""
    example: Path | None = None
    """Input example: ``.json``, ``.csv`` or ``.npy``."""
    requirements: Path | None = None
    """None: the ``requirements.txt`` beside Python code or in a model folder, if there is one."""
    include: tuple[Path, ...] = ()
    """Files and folders to put beside the model."""
    trust_pickle: bool = False
    relock: bool = False
    """Lock anew even where the same source was packaged before."""
    device: str = "cpu"
    threads: int | None = None
    """While the model is looked at; None: the number of cores."""
    timeout: float = DESCRIBE_SECONDS
    """Seconds that looking at it may take."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A package, or the news that it exists already."""

    name: str
    """Of the model."""
    digest: str
    source_digest: str
    manifest: Manifest | None
    """None where the same source was packaged before: then the folder holds no package, and ``digest`` is the one that exists."""
    runs_code: bool
    """Whether it holds a pickle: then it must be registered with who trusts it."""
    load_seconds: float = 0.0
    warning: str = ""
    """What the user should know, such as that the model could not be run; else empty."""


def build(
    target: str,
    folder: Path,
    home: Home,
    options: Options | None = None,
    *,
    known: Known | None = None,
    say: Say | None = None,
    bootstrap: Path = BOOTSTRAP,
) -> Built:
    """Make the package of ``target`` in ``folder``, which must be empty; environments are made in ``home``.

    Where ``known`` knows the source (and ``relock`` is not set) nothing is locked or loaded. Raises `PackageError` and those below it,
    `NotFound` and `SpecError`; then ``folder`` holds nothing of use, and nothing else has changed but the cache of environments.
    """
    options, say = options or Options(), say or _silent
    found = detect(target, trust_pickle=options.trust_pickle)
    name = check_name(options.name or found.name, "--name")
    source = _gather(found, folder, options)
    before = known(source.source_digest) if known and not options.relock else None
    if before is not None:
        return Built(name=name, digest=before, source_digest=source.source_digest, manifest=None, runs_code=found.runs_code)
    locked = _lock(source, folder, say)
    python = environment.python_of(home, folder, locked)
    say(f"loading {found.path.name} and running it once")
    description = describe(_question(found, folder, options), python, timeout=options.timeout, bootstrap=bootstrap)
    if description.warning:
        say(description.warning)
    manifest = _complete(locked, folder, description)
    (folder / MANIFEST).write_bytes(manifest.encode())
    return Built(
        name=name,
        digest=manifest.digest,
        source_digest=manifest.source_digest,
        manifest=manifest,
        runs_code=found.runs_code,
        load_seconds=description.load_seconds,
        warning=description.warning,
    )


def _gather(target: Target, folder: Path, options: Options) -> Manifest:
    """Copy what the user gave into ``folder`` and return the manifest as far as it is known from that."""
    files = _files(target, options)
    check_paths(files)
    for name, source in files.items():
        copy = folder / FILES / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        # A copy, not a link: whoever writes into the original later must not change the package.
        shutil.copyfile(source, copy)
    requirements = _requirements(target, options)
    if requirements is not None:
        (folder / REQUIREMENTS).write_text(environment.read_requirements(requirements), encoding="utf-8")
    if options.example is not None:
        (folder / EXAMPLE).write_bytes(read_example(options.example))
    return Manifest(
        runtime=target.runtime,
        entry=target.entry,
        signature=Signature(inputs=(), outputs=()),
        files={name: hash_file(folder / FILES / name) for name in files},
        origin="python" if target.attribute else "file",
        python=environment.server_python() if requirements is not None else None,
        requirements=_hash(folder / REQUIREMENTS),
        example=_hash(folder / EXAMPLE),
    )


def _files(target: Target, options: Options) -> dict[str, Path]:
    """Return the files of the package by their path below ``files/``."""
    path = target.path
    if target.attribute:
        return code_files(path, options.include)
    if path.is_dir():
        files = {f"{path.name}/{name}": source for name, source in regular_files(path).items()}
    else:
        files = {path.name: path, **(external_files(path) if path.suffix.lower() == ".onnx" else {})}
    for include in options.include:
        files = {**included(include, path.parent), **files}
    return files


def _requirements(target: Target, options: Options) -> Path | None:
    """Return the requirements file: the one given, or that beside code or in a folder. A bare model file takes none by itself."""
    if options.requirements is not None:
        return options.requirements
    beside = (target.path if target.path.is_dir() else target.path.parent) / REQUIREMENTS
    own = target.attribute or target.path.is_dir()
    return beside if own and beside.is_file() else None


def _lock(source: Manifest, folder: Path, say: Say) -> Manifest:
    if source.python is None:
        return source
    say("locking and installing the requirements")
    environment.lock(folder, source.python)
    return msgspec.structs.replace(source, lock=hash_file(folder / LOCK))


def _question(target: Target, folder: Path, options: Options) -> Question:
    example = folder / EXAMPLE
    return Question(
        path=folder / FILES / target.path.name,
        attribute=target.attribute,
        runtime=target.runtime,
        device=options.device,
        threads=options.threads or len(os.sched_getaffinity(0)),
        example=example if example.exists() else None,
    )


def _complete(locked: Manifest, folder: Path, description: Description) -> Manifest:
    # Bytecode is welcome in the environment, which starts faster with it, but is no part of the package.
    for cache in [path for path in (folder / FILES).rglob("__pycache__") if path.is_dir()]:
        shutil.rmtree(cache)
    written = regular_files(folder / FILES).keys() - locked.files.keys()
    if written:
        raise PackageError(
            f"loading the model wrote {min(written)} into its own folder, which is read-only later; let it write elsewhere"
        )
    return msgspec.structs.replace(
        locked, signature=description.signature, idempotent=description.idempotent, platform=description.platform
    )


def _hash(path: Path) -> str | None:
    return hash_file(path) if path.exists() else None


def _silent(_: str) -> None:
    return
