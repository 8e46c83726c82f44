"""Point an alias such as 'champion' at a version of a model, or remove it. Deployments that follow the alias roll to the version."""

from __future__ import annotations

import argparse

from headgate.cli.arguments import add_connection, add_output
from headgate.cli.catalog import open_catalog
from headgate.cli.flags import count
from headgate.cli.output import emit
from headgate.errors import InvalidRequest


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("alias", metavar="ALIAS", help="letters, not a number: champion")
    parser.add_argument("version", metavar="VERSION", nargs="?", type=count, help="where it points from now on")
    parser.add_argument("--delete", action="store_true", help="remove the alias; the version stays")
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Move or remove the alias."""
    if args.delete == (args.version is not None):
        raise InvalidRequest("VERSION: give the version the alias shall point to, or --delete; one of the two")
    with open_catalog(args) as catalog:
        if args.delete:
            catalog.delete_alias(args.model, args.alias)
        else:
            catalog.set_alias(args.model, args.alias, args.version)
    result = {"model": args.model, "alias": args.alias, "version": args.version}
    emit(args.output, result, lambda: _text(args))
    return 0


def _text(args: argparse.Namespace) -> str:
    return f"{args.model}@{args.alias} removed" if args.delete else f"{args.model}@{args.alias} -> {args.version}"
