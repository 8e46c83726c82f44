"""What the tests of TensorFlow Serving's REST API do with a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from serving import Answer, Server


class Client:
    """What a client of TensorFlow Serving does with a server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def post(self, model: str, body: Any, verb: str = "predict", *, place: str = "", headers: Mapping[str, str] = {}) -> Answer:
        """POST a body (`bytes` or `str`: as it is) to a model, or to a version or label of it (``place``)."""
        raw = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.server.request("POST", f"/v1/models/{model}{place}:{verb}", raw, headers)

    def ask(self, model: str, body: Any, verb: str = "predict", *, place: str = "") -> Any:
        """Return the answer to a request that must succeed."""
        answer = self.post(model, body, verb, place=place)
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        return answer.json

    def refused(self, model: str, body: Any, verb: str = "predict", *, place: str = "", status: int = 400) -> str:
        """Return the error of a request that must be refused: an object with nothing but its text."""
        return text_of(self.post(model, body, verb, place=place), status)


def text_of(answer: Answer, status: int) -> str:
    """Return the error that an answer is."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    found = answer.json
    assert list(found) == ["error"]
    return str(found["error"])
