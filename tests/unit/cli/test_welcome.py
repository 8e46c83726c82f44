"""The line a new user pastes is right: it sends what the deployment takes."""

import json
import shlex
from typing import Any

import pytest

from headgate.cli import welcome
from headgate.cli.api import Address, Api


def metadata(*inputs: tuple[str, str, list[int]], outputs: int = -1) -> dict[str, Any]:
    """Metadata of a deployment ``m``."""
    described = [{"name": name, "datatype": dtype, "shape": shape} for name, dtype, shape in inputs]
    return {"name": "m", "inputs": described, "outputs": [{"name": "y", "datatype": "FP32", "shape": [outputs]}]}


def lines(described: dict[str, Any], row: Any = None, **access: Any) -> str:
    """What is said of a deployment, with its server at 127.0.0.1:8080; ``row`` is the example in /openapi.json."""
    api = Api(Address("http://127.0.0.1:8080"))
    content = {"content": {"application/json": {"example": row or {"x": 1}}}}
    path = "/v2/models/m/infer" if described.get("stateful") else "/predict/m"
    answers = {"/v2/models/m": described, "/openapi.json": {"paths": {path: {"post": {"requestBody": content}}}}}
    api.get = lambda path: answers[path]  # type: ignore[method-assign]
    status = {"name": "m", "model": "m@1", "version": 1, "revision": "m-1", "serving": "m-1", "rollout": access.get("rollout")}
    return welcome.deployment(welcome.Access(api, access.get("certificate"), access.get("key", False)), status)


def command(described: dict[str, Any], row: Any = None, **access: Any) -> str:
    """The line of it to paste."""
    return lines(described, row, **access).partition("  try      ")[2]


def test_the_line_sends_the_servers_own_example() -> None:
    """What /docs and /openapi.json show is what the line sends: one row, quoted for the shell."""
    row = {"age": 30, "city": "St. John's"}
    words = shlex.split(command(metadata(("age", "INT64", [-1]), ("city", "BYTES", [-1])), row))
    assert words[:2] == ["curl", "http://127.0.0.1:8080/predict/m"]
    assert json.loads(words[words.index("-d") + 1]) == row


def test_a_model_that_keeps_state_is_asked_in_a_sequence() -> None:
    """Plain rows carry no sequence, so the line is a whole sequence in the words of the Open Inference Protocol, as the server shows it."""
    request = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 200], "data": [[1.5] * 200]}],
        "parameters": {"sequence_id": 1, "sequence_start": True, "sequence_end": True},
    }
    words = shlex.split(command(metadata(("x", "FP32", [-1, 200])) | {"stateful": True}, request))
    assert words[:2] == ["curl", "http://127.0.0.1:8080/v2/models/m/infer"]
    assert json.loads(words[words.index("-d") + 1]) == request


def test_what_is_optional_is_said() -> None:
    """Every input is listed with its type and shape, and whether it may be left out."""
    described = metadata(("text", "BYTES", [-1]), ("top", "INT64", [-1]))
    described["inputs"][1]["optional"] = True
    assert "inputs   text BYTES[-1], top INT64[-1] (optional)\n" in lines(described)


def test_a_large_row_is_made_by_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An image is not printed but made: the line is short, and what it makes has the input's shape."""
    described = metadata(("image", "FP32", [-1, 3, 8, 32]), ("top", "INT64", [-1]))
    described["inputs"][1]["optional"] = True
    line = command(described, {"image": [[[0.5] * 32] * 8] * 3})
    assert len(line) < 300
    exec(shlex.split(line.partition(" | ")[0])[2])
    made = json.loads(capsys.readouterr().out)
    image = made.pop("image")
    assert (len(image), len(image[0]), len(image[0][0]), made) == (3, 8, 32, {})


def test_what_the_server_wants_is_in_the_line() -> None:
    """With TLS the line trusts the server's certificate; with keys it has the header, and not the key."""
    words = shlex.split(command(metadata(("x", "FP32", [-1])), certificate="cert.pem", key=True))
    assert words[1:3] == ["--cacert", "cert.pem"]
    assert "authorization: Bearer YOUR-KEY" in words
