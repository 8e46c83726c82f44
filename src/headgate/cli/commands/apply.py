"""Deploy what a file declares: one deployment a YAML document, with the settings of the reference. What is left out has its default,
unlike in 'deploy'; deployments that the file does not name stay as they are. --dry-run shows what would change, and changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from headgate.cli import declared
from headgate.cli.api import Api, segment
from headgate.cli.arguments import add_connection, add_output, add_waiting
from headgate.cli.connection import connect
from headgate.cli.output import emit
from headgate.cli.rollout_view import deployed
from headgate.cli.watching import settle
from headgate.errors import InvalidRequest, NotFound


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("-f", "--file", metavar="FILE", required=True, help="the YAML (or JSON) file; - is standard input")
    parser.add_argument("--dry-run", action="store_true", help="show the difference to what is deployed, and change nothing")
    add_waiting(parser)
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Check all of the file, then deploy every document, then wait for each."""
    data, name = _read(args.file)
    wanted = declared.read(data, name)
    api = connect(args)
    plans = [declared.plan(api, document) for document in wanted]
    if args.dry_run:
        emit(args.output, [planned.fields for planned in plans], lambda: declared.text(plans))
        return 0
    asked = [_ask(api, planned) for planned in plans]
    reached = [settle(api, status, args) for status in asked]
    emit(args.output, reached, lambda: "\n".join(map(deployed, reached)))
    return 0


def _read(file: str) -> tuple[bytes, str]:
    if file == "-":
        return sys.stdin.buffer.read(), "standard input"
    path = Path(file).expanduser()
    try:
        return path.read_bytes(), path.name
    except FileNotFoundError:
        raise NotFound(f"--file: {file}: there is no such file; nothing was deployed") from None
    except OSError as error:
        raise InvalidRequest(f"--file: {file} cannot be read ({error.strerror}); nothing was deployed") from None


def _ask(api: Api, planned: declared.Plan) -> dict[str, Any]:
    """Ask for it, unless somebody has changed the deployment since it was looked at. What has failed gets another try by that."""
    path = f"/deployments/{segment(planned.spec.name)}"
    status: dict[str, Any] = api.call("PUT", path, declared.plain(planned.spec), planned.generation)[1]
    return status
