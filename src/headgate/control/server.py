"""The server that control is a part of: what ``server.json`` says, and how it is asked to end."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from headgate.errors import NotReady
from headgate.home import Home


def server_facts(home: Home) -> dict[str, Any]:
    """Return what the supervisor has written about the server; empty if there is nothing."""
    try:
        facts = json.loads(home.server.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def end_server(home: Home) -> dict[str, Any]:
    """Send SIGTERM to the supervisor; return its pid and the seconds that requests have, None where nothing says so.

    Raises `NotReady` if it is not (or no longer) the process it was.
    """
    facts = server_facts(home)
    try:
        pid, started = int(facts["pid"]), int(facts["started"])
        # The descriptor names one process for ever; only then is its start time worth looking at.
        pidfd = os.pidfd_open(pid)
    except (KeyError, TypeError, ValueError, ProcessLookupError):
        raise _gone() from None
    try:
        if _start_time(pid) != started:
            raise _gone()
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    except ProcessLookupError:
        raise _gone() from None
    finally:
        os.close(pidfd)
    return {"pid": pid, "drain_seconds": facts.get("drain_seconds")}


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def _gone() -> NotReady:
    return NotReady(
        "the supervisor of this server is gone, so nothing was ended; 'headgate serve' on this home takes over what runs, then stop that",
        retry_after=None,
    )
