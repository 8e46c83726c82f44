"""List the versions of a model, newest first."""

from __future__ import annotations

import argparse
from typing import Any

from headgate.cli.arguments import add_connection, add_output
from headgate.cli.catalog import open_catalog
from headgate.cli.output import emit, table, when


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("model", metavar="MODEL")
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print every version."""
    with open_catalog(args) as catalog:
        versions = catalog.versions(args.model)
    emit(args.output, versions, lambda: _text(args.model, versions))
    return 0


def _text(model: str, versions: list[dict[str, Any]]) -> str:
    rows = [
        (
            f"{model}@{version['number']}",
            ", ".join(version["aliases"]),
            when(version["created"]),
            version["digest"].removeprefix("sha256:")[:12],
            version["note"],
        )
        for version in sorted(versions, key=lambda version: -int(version["number"]))
    ]
    return table(("VERSION", "ALIASES", "CREATED", "DIGEST", "NOTE"), rows)
