"""Finding the server: by its URL, else as the one that runs on the home."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from headgate.cli.api import Address, Api
from headgate.cli.arguments import home_of
from headgate.errors import ServerUnreachable
from headgate.home import Home


def key_of(args: argparse.Namespace) -> str | None:
    """Return the API key the user gave, if any."""
    return args.key or os.environ.get("HEADGATE_API_KEY") or None


def find(args: argparse.Namespace) -> Api | None:
    """Return the control API the command is about, or None where no server runs on the home."""
    # A home that is named on the command line is meant, whatever the environment says.
    url = args.server or (None if args.home else os.environ.get("HEADGATE_SERVER"))
    if url:
        return Api(Address(url, key_of(args), args.ca))
    running = live_server(home_of(args))
    if running is None:
        return None
    # It is reached by its loopback address, which its certificate need not name.
    ca = args.ca or running.get("tls_cert")
    return Api(Address(running["control_url"], key_of(args), ca, pinned=ca is not None))


def connect(args: argparse.Namespace) -> Api:
    """Return the control API the command is about. Raises `ServerUnreachable` where no server runs on the home."""
    api = find(args)
    if api is None:
        raise ServerUnreachable(
            f"no server runs on {home_of(args).path}; start one with 'headgate serve', or say where one is with --server URL or --home"
        )
    return api


def live_server(home: Home) -> dict[str, Any] | None:
    """Return what ``run/server.json`` says, if the process it names still runs."""
    try:
        server: dict[str, Any] = json.loads(home.server.read_bytes())
        with open(f"/proc/{server['pid']}/stat", "rb") as stat:
            # The name in parentheses may hold anything; field 22 is the 20th after it.
            started = stat.read().rpartition(b")")[2].split()[19]
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return server if int(started) == server.get("started") else None
