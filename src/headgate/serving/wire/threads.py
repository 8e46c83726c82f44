"""Long work off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from headgate.errors import HeadgateError


def attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``work`` returns, or the `HeadgateError` it raises, which keeps alive nothing that ``work`` had made by then."""
    try:
        return work(*arguments)
    except HeadgateError as error:
        return error.with_traceback(None)


def in_thread(loop: asyncio.AbstractEventLoop, then: Callable[[Any], None], work: Callable[..., Any], *arguments: Any) -> None:
    """Do ``work`` in a thread and hand its result, or its `HeadgateError`, to ``then`` on the loop."""
    future = loop.run_in_executor(None, attempt, work, *arguments)
    future.add_done_callback(lambda done: then(done.result()))
