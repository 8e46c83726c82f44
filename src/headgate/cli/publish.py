"""From a model file to a registered version: package it, bring it into the store, register it."""

from __future__ import annotations

import argparse
import getpass
import json
from pathlib import Path
from typing import Any, NamedTuple

from headgate.cli.arguments import home_of
from headgate.cli.catalog import Catalog
from headgate.cli.output import note
from headgate.package.build import Options, build
from headgate.package.detect import detect
from headgate.package.manifest import EXAMPLE


class Published(NamedTuple):
    """What became of a target."""

    version: dict[str, Any]
    """As the control API has it."""
    created: bool
    """Whether it is a new version; else the same source was registered already."""
    example: Any
    """The input example the user gave; None without one."""

    @property
    def reference(self) -> str:
        """``fraud@3``."""
        return f"{self.version['model']}@{self.version['number']}"


def publish(catalog: Catalog, target: str, args: argparse.Namespace) -> Published:
    """Register ``target`` under ``args.name``, else its file's name; what was registered from the same source stays what it is.

    Raises `PackageError` where the model cannot be packaged; nothing is registered then.
    """
    name = args.name or detect(target, trust_pickle=args.trust_pickle).name
    with catalog.staging() as folder:
        built = build(
            target, folder, home_of(args), _options(args, name), known=lambda source: catalog.known(name, source), say=note
        )
        example = folder / EXAMPLE
        given = json.loads(example.read_bytes()) if example.is_file() else None
        if built.manifest is not None:
            catalog.store(folder, built.digest)
    fields: dict[str, Any] = {"digest": built.digest}
    if getattr(args, "note", None):
        fields["note"] = args.note
    if built.runs_code:
        fields["trusted_by"] = getpass.getuser()
    if args.relock:
        fields["relock"] = True
    created, version = catalog.register(built.name, fields)
    return Published(version, created, given)


def _options(args: argparse.Namespace, name: str) -> Options:
    return Options(
        name=name,
        example=Path(args.example) if args.example else None,
        requirements=Path(args.requirements) if args.requirements else None,
        include=tuple(map(Path, args.include)),
        trust_pickle=args.trust_pickle,
        relock=args.relock,
        device=getattr(args, "device", None) or "cpu",
        threads=getattr(args, "threads", None),
    )
