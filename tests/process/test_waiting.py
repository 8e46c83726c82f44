"""Commands that wait for a server whose control is killed meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.cli.waiting import until_live, until_ready
from headgate.errors import HeadgateError, NotFound, NotReady, ServerUnreachable

SERVES = {
    "name": "fraud",
    "revision": "fraud-2",
    "reason": "",
    "also": [],
    "revisions": [{"name": "fraud-2", "state": "serving", "share": 10_000, "replicas": [{"state": "ready"}]}],
}


class Control:
    """Answers, or raises, what it is given, in order; the last again and again."""

    def __init__(self, *says: Any) -> None:
        self._says = list(says)
        self.asked: list[str] = []

    def get(self, path: str) -> Any:
        """GET."""
        self.asked.append(path)
        said = self._says.pop(0) if len(self._says) > 1 else self._says[0]
        if isinstance(said, HeadgateError):
            raise said
        return said


def test_a_control_that_comes_back_is_waited_for() -> None:
    """A connection that breaks, or keys that are not read yet, do not end the wait for a deployment: what is deployed is the server's."""
    control = Control(ServerUnreachable("it broke"), NotReady("keys"), ServerUnreachable("it broke"), SERVES)
    assert until_ready(control, "fraud", "fraud-2", 60.0) is SERVES
    assert control.asked == ["/deployments/fraud"] * 4
    assert until_live(Control(NotReady("keys"), {"deployments": []})) == {"deployments": []}


def test_a_control_that_stays_away_is_told() -> None:
    """After the limit the wait ends with what the last try said; an answer that is a refusal ends it at once."""
    with pytest.raises(ServerUnreachable, match="it broke"):
        until_live(Control(ServerUnreachable("it broke")), limit=0.05)
    refusing = Control(NotFound("no such deployment"))
    with pytest.raises(NotFound):
        until_ready(refusing, "fraud", None, 60.0)
    assert len(refusing.asked) == 1
