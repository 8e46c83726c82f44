"""From a source to a package folder: write the files, lock what they need, load the model once, and write the manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from headgate.errors import EnvironmentFailed, PackageError
from headgate.home import Home
from headgate.package import environment
from headgate.package.describe import BOOTSTRAP, Description, Question, describe
from headgate.package.folder import regular_files
from headgate.package.folders.base import Say, VersionSource
from headgate.package.manifest import EXAMPLE, FILES, LOCK, MANIFEST, REQUIREMENTS, SAMPLE, Manifest, check_paths, hash_file
from headgate.package.options import Options
from headgate.package.signature import Signature

Known = Callable[[str], str | None]
"""Source digest -> digest of the package made from the same before, or None."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A package, or the news that it exists already."""

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
    source: VersionSource,
    folder: Path,
    home: Home,
    options: Options | None = None,
    *,
    known: Known | None = None,
    say: Say | None = None,
    bootstrap: Path = BOOTSTRAP,
) -> Built:
    """Make the package of ``source`` in ``folder``, which must be empty; environments are made in ``home``.

    Where ``known`` knows the source (and ``relock`` is not set) nothing is locked or loaded. Raises `PackageError` and those below it;
    then ``folder`` holds nothing of use, and nothing else has changed but the cache of environments.
    """
    options, say = options or Options(), say or _silent
    gathered = _gather(source, folder, say)
    before = known(gathered.source_digest) if known and not options.relock else None
    if before is not None:
        return Built(digest=before, source_digest=gathered.source_digest, manifest=None, runs_code=source.runs_code)
    locked = _lock(gathered, folder, say)
    python = environment.python_of(home, folder, locked)
    say(f"loading {source.title} and running it once")
    description = describe(_question(source, folder, options), python, timeout=options.timeout, bootstrap=bootstrap)
    if description.warning:
        say(description.warning)
    manifest = _complete(locked, source, folder, description)
    (folder / MANIFEST).write_bytes(manifest.encode())
    return Built(
        digest=manifest.digest,
        source_digest=manifest.source_digest,
        manifest=manifest,
        runs_code=source.runs_code,
        load_seconds=description.load_seconds,
        warning=description.warning,
    )


def _gather(source: VersionSource, folder: Path, say: Say) -> Manifest:
    """Write what the source is made of into ``folder`` and return the manifest as far as it is known from that."""
    check_paths(source.files)
    for name, content in source.files.items():
        copy = folder / FILES / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            copy.write_bytes(content)
        else:
            # A copy, not a link: whoever writes into the original later must not change the package.
            shutil.copyfile(content, copy)
    if source.requirements is not None:
        (folder / REQUIREMENTS).write_text(source.requirements, encoding="utf-8")
    if source.example is not None:
        (folder / EXAMPLE).write_bytes(source.example)
    return Manifest(
        runtime=source.runtime,
        entry=source.entry,
        signature=Signature(inputs=(), outputs=()),
        files={name: hash_file(folder / FILES / name) for name in source.files},
        origin=source.origin,
        python=_python(source, say),
        requirements=_hash(folder / REQUIREMENTS),
        example=_hash(folder / EXAMPLE),
        config=dict(source.config),
    )


def _python(source: VersionSource, say: Say) -> str | None:
    """Return the Python that the model gets an environment of; None without one. Raises `EnvironmentFailed`."""
    own = environment.server_python()
    wanted = source.python or own
    if source.requirements is None:
        if wanted != own:
            say(f"{source.title}: made with Python {wanted}, and without requirements it runs in the server's own, {own}")
        return None
    if wanted == own or environment.has_python(wanted):
        return wanted
    if source.runs_code:
        raise EnvironmentFailed(
            f"{source.title}: made with Python {wanted}, and a pickle may mean something else to another; there is no Python {wanted} on "
            f"this machine. Install it, or save the model again with Python {own}"
        )
    say(f"{source.title}: made with Python {wanted}, which is not on this machine; it is locked for, and runs with, Python {own}")
    return own


def _lock(source: Manifest, folder: Path, say: Say) -> Manifest:
    if source.python is None:
        return source
    say("locking and installing the requirements")
    environment.lock(folder, source.python)
    return msgspec.structs.replace(source, lock=hash_file(folder / LOCK))


def _question(source: VersionSource, folder: Path, options: Options) -> Question:
    example = folder / EXAMPLE
    path, _, attribute = source.entry.partition(":")
    return Question(
        path=folder / FILES / path,
        attribute=attribute,
        runtime=source.runtime,
        device=options.device,
        threads=options.threads or len(os.sched_getaffinity(0)),
        example=example if example.exists() else None,
    )


def _complete(locked: Manifest, source: VersionSource, folder: Path, description: Description) -> Manifest:
    # Bytecode is welcome in the environment, which starts faster with it, but is no part of the package.
    for cache in [path for path in (folder / FILES).rglob("__pycache__") if path.is_dir()]:
        shutil.rmtree(cache)
    written = regular_files(folder / FILES).keys() - locked.files.keys()
    if written:
        raise PackageError(
            f"loading the model wrote {min(written)} into its own folder, which is read-only later; let it write elsewhere"
        )
    if description.sample is not None:
        (folder / SAMPLE).write_bytes(msgspec.json.encode(description.sample))
    signature = description.signature
    outputs = [msgspec.structs.replace(spec, labels=source.labels.get(spec.name, ())) for spec in signature.outputs]
    return msgspec.structs.replace(
        locked,
        signature=msgspec.structs.replace(signature, outputs=tuple(outputs), answers=signature.answers or source.answers),
        idempotent=description.idempotent,
        platform=description.platform,
        sample=_hash(folder / SAMPLE),
    )


def _hash(path: Path) -> str | None:
    return hash_file(path) if path.exists() else None


def _silent(_: str) -> None:
    return
