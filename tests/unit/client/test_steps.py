"""What a caller says beside the data is sent as it was said, or refused before anything is sent."""

from __future__ import annotations

import math
from typing import Any

import pytest

from headgate.client import steps
from headgate.client.steps import Options
from headgate.client.wire import Request
from headgate.errors import InvalidRequest


def first_request(**options: Any) -> Request:
    """What is sent first for one row."""
    return next(steps.predict_rows("m", [{"x": 1}], Options(**options)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "timeout: expected more than 0 seconds, got 0; nothing was sent"),
        ({"timeout": -1.5}, "timeout: expected more than 0 seconds, got -1.5"),
        ({"timeout": math.inf}, "timeout: expected more than 0 seconds"),
        ({"timeout": math.nan}, "timeout: expected more than 0 seconds"),
        ({"request_id": ""}, "request_id: expected 1 to 200 printable ASCII characters"),
        ({"request_id": "a\nx-api-key: b"}, "request_id: expected 1 to 200"),
        ({"request_id": "ø"}, "request_id: expected 1 to 200"),
        ({"request_id": "a" * 201}, "request_id: expected 1 to 200"),
        ({"parameters": {"a": 1}}, "parameters: rows carry none"),
    ],
)
def test_what_cannot_be_sent_is_refused(options: dict[str, Any], said: str) -> None:
    """A wrong option is named with what was expected; it is neither ignored nor left to the network to choke on."""
    with pytest.raises(InvalidRequest) as refused:
        first_request(**options)
    assert str(refused.value).startswith(said)


def test_options_travel_as_headers_and_path() -> None:
    """Seconds become milliseconds, at least one; version 0 is a version, not the absence of one."""
    request = first_request(timeout=1e-9, request_id="a" * 200, version=0)
    assert request.headers["x-headgate-timeout-ms"] == "1"
    assert request.headers["x-request-id"] == "a" * 200
    assert request.path == "/predict/m/versions/0"
    assert first_request().path == "/predict/m"
    assert next(steps.metadata("m", 0)).path == "/v2/models/m/versions/0"
