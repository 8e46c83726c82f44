"""Wishes to load and unload models, on their way to control and back."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.errors import HeadgateError, InvalidRequest, NotReady, Overloaded
from headgate.journal import WishKind, decode_wish
from headgate.protocols.base import Later, Reply
from headgate.routes import WishAnswer, encode_answer
from headgate.serving import link
from headgate.serving.administration import MOST_WISHES, WISH_SECONDS, Administration
from headgate.testing import ManualClock


class Asker:
    """Who waits for an answer."""

    def __init__(self) -> None:
        self.gone = False
        self.answers: list[Any] = []

    def reply(self, reply: Reply) -> None:
        """Done."""
        self.answers.append(bytes(reply.body))

    def fail(self, error: HeadgateError) -> None:
        """Not done."""
        self.answers.append(error)


class Control:
    """Control, as an administration sees it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.administration = Administration(True, self.clock.monotonic)
        self.there = True
        self.heard: list[bytes] = []
        self.administration.send = self.hear

    def hear(self, frame: bytes) -> bool:
        """Take a frame, if it is there."""
        if self.there:
            self.heard.append(frame)
        return self.there

    def ask(self, kind: WishKind = WishKind.LOAD, model: str = "m") -> tuple[Asker, int]:
        """Have somebody wish for something; return him, and the number of his wish."""
        asker = Asker()
        later: Later = self.administration.wish(kind, model, Reply(b"done"))
        later.sink = asker
        return asker, decode_wish(self.heard[-1][link.FRAME.size :]).number

    def answer(self, number: int, error: str = "") -> None:
        """Answer a wish."""
        self.administration.answered(encode_answer(WishAnswer(number=number, error=error)))


def test_a_wish_goes_up_and_its_answer_comes_back() -> None:
    """To who has asked, and once."""
    control = Control()
    (first, one), (second, two) = control.ask(), control.ask(WishKind.UNLOAD, "n")
    assert one != two
    control.answer(two, "failed to unload 'n': there is no such model")
    control.answer(one)
    control.answer(one)
    assert first.answers == [b"done"]
    (error,) = second.answers
    assert isinstance(error, InvalidRequest) and "no such model" in str(error)


def test_where_nobody_may_nothing_is_sent() -> None:
    """Refused with Triton's words and the flag that allows it."""
    clock = ManualClock()
    administration = Administration(False, clock.monotonic)
    sent: list[bytes] = []
    administration.send = lambda frame: bool(sent.append(frame)) or True
    with pytest.raises(
        NotReady, match=r"explicit model load / unload is not allowed if polling is enabled.*--model-control explicit"
    ):
        administration.wish(WishKind.LOAD, "m", Reply(b""))
    assert not sent


def test_without_control_it_is_said_at_once() -> None:
    """Nothing is remembered of it."""
    control = Control()
    control.there = False
    with pytest.raises(NotReady, match="control, which would load 'm', is not there"):
        control.administration.wish(WishKind.LOAD, "m", Reply(b""))
    control.there = True
    control.administration.repeat()
    assert not control.heard


def test_a_control_that_comes_back_is_told_again() -> None:
    """What has no answer, and nothing else; the second answer goes nowhere."""
    control = Control()
    (first, one), (second, two) = control.ask(), control.ask(model="n")
    control.answer(one)
    control.heard.clear()
    control.administration.repeat()
    assert [decode_wish(frame[link.FRAME.size :]).number for frame in control.heard] == [two]
    control.answer(two)
    assert (first.answers, second.answers) == ([b"done"], [b"done"])


def test_nobody_waits_for_ever() -> None:
    """After the limit he is told that it may still happen, and an answer that comes then is for nobody."""
    control = Control()
    asker, number = control.ask()
    control.administration.expire(control.clock.monotonic() + WISH_SECONDS - 0.1)
    assert not asker.answers
    control.administration.expire(control.clock.monotonic() + WISH_SECONDS)
    control.answer(number)
    (error,) = asker.answers
    assert isinstance(error, NotReady) and "it may still be" in str(error)


def test_who_has_gone_is_not_answered() -> None:
    """The client closed its connection meanwhile."""
    control = Control()
    asker, number = control.ask()
    asker.gone = True
    control.answer(number)
    assert not asker.answers


def test_wishes_are_bounded() -> None:
    """One more than may wait is shed."""
    control = Control()
    for _ in range(MOST_WISHES):
        control.ask()
    with pytest.raises(Overloaded):
        control.administration.wish(WishKind.LOAD, "m", Reply(b""))


def test_a_gateway_that_starts_anew_counts_on() -> None:
    """Its numbers are not those of the one before, whose wishes control may still remember."""
    control = Control()
    _, before = control.ask()
    control.clock.advance(1.0)
    control.administration = Administration(True, control.clock.monotonic)
    control.administration.send = control.hear
    assert control.ask()[1] > before
