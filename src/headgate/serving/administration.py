"""Wishes of clients to load and unload models: off unless the server was told otherwise, and then carried out by control.

The gateway deploys nothing. It passes a wish up the link and keeps the client waiting for the answer, for a bounded time; a control that
has been started anew is told what is still wished for.
"""

from __future__ import annotations

from collections.abc import Callable

from headgate.errors import NotReady, Overloaded, by_code
from headgate.journal import Wish, WishedModel, WishKind, encode_wish
from headgate.protocols.base import Later, Reply
from headgate.routes import decode_answer
from headgate.serving import link

WISH_SECONDS = 600.0
"""How long a client is kept waiting: an environment may have to be made first."""
MOST_WISHES = 64
"""That may wait at a time."""


class Administration:
    """The wishes of one gateway."""

    def __init__(self, allowed: bool, now: Callable[[], float]) -> None:
        self._allowed = allowed
        self._now = now
        self._open: dict[int, tuple[Wish, Later, float]] = {}
        # A gateway that is started anew must not say the numbers of the one before, whose wishes control may still remember.
        self._number = int(now() * 1e6)
        self.send: Callable[[bytes], bool] = lambda frame: False
        """Passes a frame to control; False where there is none."""

    def check(self) -> None:
        """Raises `NotReady` where nobody may load or unload models."""
        if not self._allowed:
            raise NotReady(
                "explicit model load / unload is not allowed if polling is enabled: deploy with 'headgate deploy' instead, or start the "
                "server with --model-control explicit",
                retry_after=None,
            )

    def wish(self, kind: WishKind, model: str, reply: Reply, models: tuple[WishedModel, ...] = ()) -> Later:
        """Ask control for something; ``reply`` is the answer once it is done. Raises `NotReady` where nobody may, or nobody hears."""
        self.check()
        if len(self._open) >= MOST_WISHES:
            raise Overloaded(f"{MOST_WISHES} models are being loaded or unloaded; retry later")
        self._number += 1
        wish, later = Wish(number=self._number, kind=kind, model=model, models=models), Later(reply)
        if not self.send(_frame(wish)):
            raise NotReady(f"control, which would {kind} {_what(wish)}, is not there at the moment; nothing was changed, retry")
        self._open[wish.number] = wish, later, self._now() + WISH_SECONDS
        return later

    def repeat(self) -> None:
        """Control is there (again): tell it what is still wished for."""
        for wish, _, _ in self._open.values():
            self.send(_frame(wish))

    def answered(self, payload: bytes) -> None:
        """Control has answered a wish."""
        answer = decode_answer(payload)
        _, later, _ = self._open.pop(answer.number, (None, None, 0.0))
        if later is not None:
            later.settle(by_code(answer.code, answer.error) if answer.error else None)

    def expire(self, now: float) -> None:
        """Let clients go that have waited long enough."""
        for number, (wish, later, end) in list(self._open.items()):
            if now >= end:
                del self._open[number]
                later.settle(
                    NotReady(
                        f"{_what(wish)} has not been {wish.kind}ed within {WISH_SECONDS:g} s; it may still be: POST /v2/repository/index "
                        "says how it is",
                        retry_after=None,
                    )
                )


def _what(wish: Wish) -> str:
    return f"'{wish.model}'" if wish.model else "the configuration"


def _frame(wish: Wish) -> bytes:
    return link.frame(link.WISH, encode_wish(wish))
