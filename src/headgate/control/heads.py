"""The HTTP of the control port: uvicorn's, with an end to waiting for the head of a request.

uvicorn closes connections that are idle between two requests; whoever sends a head byte by byte, or none at all, it lets wait for
ever, and each costs a descriptor. Bodies have their limits in `headgate.control.bodies`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""From the connection, or the first byte of a later head, to its end; as the inference port has it."""


class ImpatientProtocol(HttpToolsProtocol):
    """One connection; it is closed when a head is not whole in time."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait for a later head from its first byte on, even if that is an empty line, which the parser passes over."""
        if self._waiting is None and self.cycle is not None and self.cycle.response_complete:
            self._wait()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there to wait for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
