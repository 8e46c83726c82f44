"""See and steer how a new version takes over. 'status' shows the newest rollout and 'watch' follows it to its end: exit code 0 where the
new version has all of the traffic, 6 where it was taken back. 'pause', 'resume', 'promote' and 'abort' are orders for the one under
way; 'history' says who changed what takes the traffic, when and why.
"""

from __future__ import annotations

import argparse
from typing import Any

from headgate.cli import rollout_view
from headgate.cli.api import Api, segment
from headgate.cli.arguments import add_connection, add_output
from headgate.cli.connection import connect
from headgate.cli.flags import count
from headgate.cli.output import emit, table, when
from headgate.cli.watching import shown, watch
from headgate.errors import InvalidRequest

ORDERS = ("pause", "resume", "promote", "abort")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("action", choices=("status", "watch", *ORDERS, "history"))
    parser.add_argument("name", metavar="NAME", help="the deployment")
    parser.add_argument("--why", metavar="TEXT", help="a reason for the history, with an order")
    parser.add_argument("--tail", type=count, metavar="N", help="the last N lines of the history (default: 1000)")
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out the action."""
    if args.why is not None and args.action not in ORDERS:
        raise InvalidRequest(f"--why: goes with an order ({', '.join(ORDERS)}); '{args.action}' changes nothing")
    if args.tail is not None and args.action != "history":
        raise InvalidRequest(f"--tail: goes with 'history', which has lines; '{args.action}' has none")
    api, path = connect(args), f"/deployments/{segment(args.name)}"
    if args.action == "watch":
        watch(api, args.name, shown(args.output))
    elif args.action == "history":
        _history(args, api, path)
    elif args.action == "status":
        rollout = api.get(f"{path}/rollout")
        emit(args.output, rollout, lambda: rollout_view.text(rollout))
    else:
        rollout = api.call("POST", f"{path}/rollout/{args.action}", {"why": args.why or ""})[1]
        emit(args.output, rollout, lambda: f"{args.name}: {rollout_view.said_of(rollout)}")
    return 0


def _history(args: argparse.Namespace, api: Api, path: str) -> None:
    lines = api.get(f"{path}/history" + (f"?tail={args.tail}" if args.tail else ""))
    emit(args.output, lines, lambda: history(lines))


def history(lines: list[dict[str, Any]]) -> str:
    """Return the history for people; the evidence is for programs."""
    rows = [(when(line["at"], "seconds"), line["who"], line["what"].replace("_", " "), line["why"]) for line in lines]
    return table(("TIME", "WHO", "WHAT", "WHY"), rows) if rows else "nothing has taken the traffic yet"
