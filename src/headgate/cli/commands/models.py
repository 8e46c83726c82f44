"""List the models of the registry: the server's, or the home's where no server runs."""

from __future__ import annotations

import argparse
from typing import Any

from headgate.cli.arguments import add_connection, add_output
from headgate.cli.catalog import open_catalog
from headgate.cli.output import emit, table, when


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print every model with its newest version and its aliases."""
    with open_catalog(args) as catalog:
        models = catalog.models()
    emit(args.output, models, lambda: _text(models))
    return 0


def _text(models: list[dict[str, Any]]) -> str:
    if not models:
        return "no models yet; register one with: headgate push model.onnx"
    rows = [(model["name"], model["versions"], _aliases(model["aliases"]), when(model["created"])) for model in models]
    return table(("MODEL", "VERSIONS", "ALIASES", "CREATED"), rows)


def _aliases(found: dict[str, int]) -> str:
    return ", ".join(f"{alias} -> {version}" for alias, version in sorted(found.items()))
