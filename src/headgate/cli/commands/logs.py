"""Show what the replicas of a deployment wrote to standard output and error."""

from __future__ import annotations

import argparse
import json

from headgate.cli.api import segment
from headgate.cli.arguments import add_connection, add_output
from headgate.cli.connection import connect
from headgate.cli.flags import count


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("name", metavar="NAME", help="the deployment")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines until Ctrl-C")
    parser.add_argument("--tail", type=count, metavar="N", default=100, help="the last N lines (default: 100)")
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print the lines; as JSON, one string a line."""
    query = f"?tail={args.tail}" + ("&follow=1" if args.follow else "")
    for line in connect(args).lines(f"/deployments/{segment(args.name)}/logs{query}"):
        print(json.dumps(line, ensure_ascii=False) if args.output == "json" else line, flush=True)
    return 0
