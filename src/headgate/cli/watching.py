"""Following a rollout to its end: drawn anew about once a second on a terminal, a line for every change elsewhere."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from headgate.cli import rollout_view
from headgate.cli.api import Api, segment
from headgate.cli.waiting import until_live, until_ready
from headgate.errors import Conflict

_PAUSE = 1.0
"""Seconds between two looks."""
_ERASE = "\x1b[J"
"""From the cursor to the end of the screen."""

Show = Callable[[dict[str, Any]], None]


def watch(api: Api, name: str, show: Show, number: int | None = None) -> dict[str, Any]:
    """Show rollout ``number`` of deployment ``name`` (None: the newest) until nothing is decided about it any more, and return it.

    Raises `Conflict` with the reason if the candidate was taken back, or something else was deployed meanwhile.
    """
    while True:
        rollout: dict[str, Any] = until_live(api, f"/deployments/{segment(name)}/rollout")
        number = number or rollout["number"]
        if rollout["number"] != number:
            raise Conflict(f"rollout {number} of {name} was superseded: something else was deployed before it came to 100 %")
        show(rollout)
        if rollout_view.is_over(rollout):
            break
        time.sleep(_PAUSE)
    if rollout["state"] in ("rolled_back", "superseded"):
        after = f"; {rollout['baseline']['model']} serves" if rollout["state"] == "rolled_back" else ""
        raise Conflict(f"{name}: {rollout_view.said_of(rollout)}: {rollout['reason']}{after}")
    return rollout


def settle(api: Api, status: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Wait for what has just been deployed, as the flags of `add_waiting` say; return the status then. Raises as `until_ready` does,
    and with ``--follow`` as `watch` does.
    """
    if args.no_wait:
        return status
    name, revision = status["name"], status["revision"]
    status = until_ready(api, name, revision, args.timeout_seconds)
    rollout = rollout_view.of_revision(status, revision)
    if rollout is None or not args.follow:
        return status
    # Standard output is for the result where a program reads it.
    watch(api, name, shown("text", sys.stderr if args.output == "json" else sys.stdout), rollout["number"])
    found: dict[str, Any] = until_live(api, f"/deployments/{segment(name)}")
    return found


def shown(output: str, stream: TextIO | None = None) -> Show:
    """Return how a rollout is shown on ``stream`` (standard output): as JSON a line, drawn on a terminal, else in lines."""
    stream = stream or sys.stdout
    if output == "json":
        return Changes(stream, lambda rollout: json.dumps(rollout, ensure_ascii=False))
    return Screen(stream) if stream.isatty() else Changes(stream, rollout_view.line)


class Changes:
    """A line for every change."""

    def __init__(self, stream: TextIO, line: Callable[[dict[str, Any]], str]) -> None:
        self._stream = stream
        self._line = line
        self._last: tuple[object, ...] = ()

    def __call__(self, rollout: dict[str, Any]) -> None:
        """Print it, if it is another than the last."""
        change = rollout_view.change(rollout)
        if change != self._last:
            self._last = change
            print(self._line(rollout), file=self._stream, flush=True)


class Screen:
    """A view that is drawn over the last one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._height = 0

    def __call__(self, rollout: dict[str, Any]) -> None:
        """Draw it. A line that wrapped, or a view higher than the terminal, would make the next one begin at a wrong place."""
        columns, rows = shutil.get_terminal_size()
        lines = [line[: columns - 1] for line in rollout_view.text(rollout, columns - 1).splitlines()][: rows - 1]
        back = f"\x1b[{self._height}F" if self._height else ""
        self._stream.write("\n".join([f"{back}{_ERASE}{lines[0]}", *lines[1:], ""]))
        self._stream.flush()
        self._height = len(lines)
