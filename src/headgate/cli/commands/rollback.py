"""Let the version serve again that served before. While it is kept warm (rollback_window) it has the traffic at once; later it is loaded
first, as in a deploy. A rollout under way is aborted.
"""

from __future__ import annotations

import argparse
from typing import Any

from headgate.cli.api import Api, segment
from headgate.cli.arguments import add_connection, add_output
from headgate.cli.connection import connect
from headgate.cli.output import emit, note
from headgate.cli.waiting import until_ready, until_taken_back


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("name", metavar="NAME", help="the deployment")
    parser.add_argument("--why", metavar="TEXT", default="", help="a reason for the history")
    parser.add_argument("--no-wait", action="store_true", help="return at once; 'headgate status' shows what becomes of it")
    parser.add_argument("--timeout-seconds", type=float, default=600.0, metavar="S", help="how long to wait for it (default: 600)")
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Go back, and wait until the gateway has done so."""
    api = connect(args)
    back: dict[str, Any] = api.call("POST", f"/deployments/{segment(args.name)}/rollback", {"why": args.why})[1]
    if not args.no_wait:
        _wait(args, api, back)
    emit(args.output, back, lambda: f"{args.name}: {back['said']}" if back["at_once"] or args.no_wait else _ready(args, back))
    return 0


def _wait(args: argparse.Namespace, api: Api, back: dict[str, Any]) -> None:
    if back["at_once"]:
        until_taken_back(api, args.name, args.timeout_seconds)
        return
    note(f"{args.name}: {back['said']}")
    until_ready(api, args.name, None, args.timeout_seconds)


def _ready(args: argparse.Namespace, back: dict[str, Any]) -> str:
    return f"{args.name}: {back['model']} serves again"
