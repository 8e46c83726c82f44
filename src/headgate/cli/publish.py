"""From what the user names to registered versions: find the models in it, package each, bring them into the store, register them."""

from __future__ import annotations

import argparse
import getpass
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from headgate.cli.arguments import home_of
from headgate.cli.catalog import Catalog
from headgate.cli.output import note
from headgate.package.build import build
from headgate.package.folders.base import ModelSource, VersionSource
from headgate.package.options import Options
from headgate.package.sources import find


class Published(NamedTuple):
    """What became of one version."""

    version: dict[str, Any]
    """As the control API has it."""
    created: bool
    """Whether it is a new version; else the same source was registered already."""
    settings: dict[str, Any]
    """What its folder asks of a deployment, as (partial) fields of a spec."""

    @property
    def reference(self) -> str:
        """``fraud@3``."""
        return f"{self.version['model']}@{self.version['number']}"


@contextmanager
def found(target: str, args: argparse.Namespace) -> Iterator[tuple[ModelSource, ...]]:
    """Yield the models that ``target`` names; what had to be fetched for them lasts as long as the block.

    Raises `NotFound`, or `PackageError` where it is no model, or one that needs something else.
    """
    with tempfile.TemporaryDirectory(prefix="headgate-fetched-") as scratch:
        yield find(target, _options(args), Path(scratch), note)


def publish(catalog: Catalog, model: ModelSource, args: argparse.Namespace) -> list[Published]:
    """Register every version of ``model``, and point its labels at them; what was registered from the same source stays what it is.

    The last is the one to deploy. Raises `PackageError` where one cannot be packaged; those before it are registered then.
    """
    for warning in model.warnings:
        note(f"{model.name}: {warning}")
    published = [_publish(catalog, model, source, args) for source in model.versions]
    numbers = {
        source.number: entry.version["number"] for source, entry in zip(model.versions, published, strict=True) if source.number
    }
    for alias, number in model.aliases.items():
        catalog.set_alias(model.name, alias, numbers[number])
    return published


def _publish(catalog: Catalog, model: ModelSource, source: VersionSource, args: argparse.Namespace) -> Published:
    with catalog.staging() as folder:
        built = build(
            source, folder, home_of(args), _options(args), known=lambda digest: catalog.known(model.name, digest), say=note
        )
        if built.manifest is not None:
            catalog.store(folder, built.digest)
    fields: dict[str, Any] = {"digest": built.digest}
    if words := getattr(args, "note", None) or source.note:
        fields["note"] = words
    if source.number is not None:
        fields["number"] = source.number
    if built.runs_code:
        fields["trusted_by"] = getpass.getuser()
    if args.relock:
        fields["relock"] = True
    created, version = catalog.register(model.name, fields)
    return Published(version, created, dict(model.settings))


def _options(args: argparse.Namespace) -> Options:
    return Options(
        name=args.name,
        example=Path(args.example) if args.example else None,
        requirements=Path(args.requirements) if args.requirements else None,
        include=tuple(map(Path, args.include)),
        trust_pickle=args.trust_pickle,
        relock=args.relock,
        device=getattr(args, "device", None) or "cpu",
        threads=getattr(args, "threads", None),
    )
