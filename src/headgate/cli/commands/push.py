"""Package a model (a file or folder, or file.py:Class) and register it as a new, immutable version; prints model@version. With no server
on the home, the home is opened directly.
"""

from __future__ import annotations

import argparse

from headgate.cli.arguments import add_connection, add_output, add_packaging
from headgate.cli.catalog import open_catalog
from headgate.cli.output import emit, note
from headgate.cli.publish import publish


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("target", metavar="TARGET", help="a model file or folder, or file.py:Class")
    parser.add_argument("--name", help="the model (default: the file's name)")
    parser.add_argument("--note", help="a word on this version, for the list")
    add_packaging(parser)
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Register the version."""
    with open_catalog(args) as catalog:
        pushed = publish(catalog, args.target, args)
    if not pushed.created:
        note(f"nothing has changed: {pushed.reference} is this model already")
    emit(args.output, {**pushed.version, "reference": pushed.reference, "new": pushed.created}, lambda: pushed.reference)
    return 0
