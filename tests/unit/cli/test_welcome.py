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


def lines(described: dict[str, Any], example: Any = None, **access: Any) -> str:
    """What is said of a deployment, with its server at 127.0.0.1:8080."""
    api = Api(Address("http://127.0.0.1:8080"))
    status = {"name": "m", "model": "m@1", "version": 1}
    api.get = lambda _: described  # type: ignore[method-assign]
    return welcome.deployment(welcome.Access(api, access.get("certificate"), access.get("key", False)), status, example)


def command(described: dict[str, Any], example: Any = None, **access: Any) -> str:
    """The line of it to paste."""
    return lines(described, example, **access).partition("  try      ")[2]


@pytest.mark.parametrize(
    ("described", "example", "row"),
    [
        (metadata(("x", "FP32", [-1, 3])), None, {"x": [0, 0, 0]}),
        (metadata(("age", "INT64", [-1, 1]), ("city", "BYTES", [-1, 1])), None, {"age": 0, "city": "text"}),
        (metadata(("ids", "INT64", [-1, -1])), None, {"ids": [0]}),
        (metadata(("vip", "BOOL", [-1])), None, {"vip": False}),
        (metadata(("x", "FP32", [-1, -1, 2])), None, {"x": [[0, 0]]}),
        (metadata(("x", "FP32", [2]), outputs=3), None, {"x": [0, 0]}),
        (metadata(("x", "FP32", [-1, 2])), [[1.5, 2.5], [3, 4]], {"x": [1.5, 2.5]}),
        (metadata(("age", "INT64", [-1])), [{"age": 30}, {"age": 40}], {"age": 30}),
        (metadata(("age", "INT64", [-1])), {"age": 30}, {"age": 30}),
    ],
)
def test_the_line_sends_one_row(described: dict[str, Any], example: Any, row: dict[str, Any]) -> None:
    """A row of the user's example where there is one, else plain values of the right types and shapes."""
    words = shlex.split(command(described, example))
    assert words[:2] == ["curl", "http://127.0.0.1:8080/predict/m"]
    assert json.loads(words[words.index("-d") + 1]) == row


def test_what_is_optional_is_said_and_not_sent() -> None:
    """The line is the shortest request that works: optional inputs are left out of it, unless there are no others."""
    described = metadata(("text", "BYTES", [-1]), ("top", "INT64", [-1]))
    described["inputs"][1]["optional"] = True
    assert json.loads(shlex.split(command(described))[-1]) == {"text": "text"}
    assert "inputs   text BYTES[-1], top INT64[-1] (optional)\n" in lines(described)
    described["inputs"][0]["shape"] = [-1, 1000]
    assert "top" not in command(described)
    del described["inputs"][0]
    assert json.loads(shlex.split(command(described))[-1]) == {"top": 0}


def test_a_large_row_is_made_by_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An image is not printed but made: the line is short, and what it makes has the input's shape."""
    line = command(metadata(("image", "FP32", [-1, 3, 8, 32])))
    assert len(line) < 300
    exec(shlex.split(line.partition(" | ")[0])[2])
    image = json.loads(capsys.readouterr().out)["image"]
    assert (len(image), len(image[0]), len(image[0][0])) == (3, 8, 32)


def test_what_the_server_wants_is_in_the_line() -> None:
    """With TLS the line trusts the server's certificate; with keys it has the header, and not the key."""
    words = shlex.split(command(metadata(("x", "FP32", [-1])), certificate="cert.pem", key=True))
    assert words[1:3] == ["--cacert", "cert.pem"]
    assert "authorization: Bearer YOUR-KEY" in words


def test_a_whole_request_goes_to_its_own_path() -> None:
    """An example that is a request of the Open Inference Protocol is sent to that protocol's path."""
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
    words = shlex.split(command(metadata(("x", "FP32", [-1])), request))
    assert words[1] == "http://127.0.0.1:8080/v2/models/m/infer"
    assert json.loads(words[-1]) == request
