"""Package a model (a file or folder, file.py:Class, or an address such as models:/name@alias) and register it as a new, immutable
version; prints model@version. With no server on the home, the home is opened directly.
"""

from __future__ import annotations

import argparse

from headgate.cli.arguments import add_connection, add_output, add_packaging
from headgate.cli.catalog import open_catalog
from headgate.cli.output import emit, note
from headgate.cli.publish import found, publish


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("target", metavar="TARGET", help="a model file or folder, file.py:Class, or models:/name@alias")
    parser.add_argument("--name", help="the model (default: the file's name)")
    parser.add_argument("--note", help="a word on this version, for the list")
    add_packaging(parser)
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Register the version."""
    with open_catalog(args) as catalog, found(args.target, args) as models:
        pushed = [version for model in models for version in publish(catalog, model, args)]
    for version in pushed:
        if not version.created:
            note(f"nothing has changed: {version.reference} is this model already")
    answers = [{**version.version, "reference": version.reference, "new": version.created} for version in pushed]
    emit(args.output, answers[0] if len(answers) == 1 else answers, lambda: "\n".join(version.reference for version in pushed))
    return 0
