"""End a deployment, or with --server the whole server. Requests under way are finished first."""

from __future__ import annotations

import argparse
import time

from headgate.cli.api import Api, segment
from headgate.cli.arguments import add_access, add_output, home_of
from headgate.cli.connection import connect, live_server
from headgate.cli.output import emit, note
from headgate.cli.waiting import until_gone
from headgate.errors import DeadlineExceeded, InvalidRequest, ServerUnreachable

_LIMIT = 60.0
"""Seconds: readiness delay, drain limit and the grace of what is left, with room."""
_ROOM = 25.0
"""Seconds for that grace, beyond what the server says that its drain takes."""
_POLL = 0.1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="the deployment to end")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it has ended")
    group = parser.add_argument_group("the server")
    group.add_argument("--server", metavar="URL", nargs="?", const="", help="its control API; without a URL: end the server itself")
    add_access(group)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """End it and wait for the end."""
    whole, args.server = args.server == "", args.server or None
    if whole == (args.name is not None):
        raise InvalidRequest("NAME: give the deployment to end, or --server to end the server; one of the two")
    api = connect(args)
    if whole:
        _stop_server(args, api)
    else:
        api.call("DELETE", f"/deployments/{segment(args.name)}")
        if not args.no_wait:
            until_gone(api, args.name, _LIMIT)
    what = "the server" if whole else args.name
    emit(args.output, {"stopped": args.name, "server": whole}, lambda: f"{what} {'is ending' if args.no_wait else 'has ended'}")
    return 0


def _stop_server(args: argparse.Namespace, api: Api) -> None:
    running = live_server(home_of(args))
    local = running is not None and running["control_url"] == api.url
    answer = api.call("POST", "/server/stop")[1]
    drain = answer.get("drain_seconds")
    note(f"draining{f', up to {drain:g} s' if drain else ''}: requests under way are finished")
    limit = max(_LIMIT, (drain or 0.0) + _ROOM)
    end = time.monotonic() + limit
    while not args.no_wait and (live_server(home_of(args)) is not None if local else _answers(api)):
        if time.monotonic() > end:
            raise DeadlineExceeded(f"the server has not ended after {limit:g} s; its log says why, a second Ctrl-C ends it at once")
        time.sleep(_POLL)


def _answers(api: Api) -> bool:
    try:
        api.get("/healthz")
    except ServerUnreachable:
        return False
    return True
