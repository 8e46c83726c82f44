"""Signals as something to wait for beside sockets and processes."""

from __future__ import annotations

import signal
import socket
from types import TracebackType
from typing import Any

_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """While entered, SIGTERM, SIGINT and SIGHUP do nothing but make `fileno` readable. Main thread only."""

    def __enter__(self) -> Signals:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # A handler, not SIG_IGN: an ignored signal writes nothing to the wakeup descriptor.
        self._before: dict[int, Any] = {number: signal.signal(number, lambda *_: None) for number in _HEARD}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, action in self._before.items():
            signal.signal(number, action)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Readable when a signal came."""
        return self._reader.fileno()

    def take(self) -> list[int]:
        """Return the signals that came since, in order."""
        try:
            return list(self._reader.recv(256))
        except BlockingIOError:
            return []
