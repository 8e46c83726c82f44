"""What a new user needs to know of a deployment: where it is, what it takes and gives, and a line to paste."""

from __future__ import annotations

import json
import shlex
from typing import Any, NamedTuple

from headgate.cli.api import Api, segment

_LONGEST = 400
"""Characters of an example that is still pasted as it is."""
_SAMPLES = {"BYTES": "text", "BOOL": False}


class Access(NamedTuple):
    """How the inference port is reached."""

    inference: Api
    certificate: str | None
    """The server's own, for clients that do not trust it otherwise."""
    key: bool
    """Whether requests are made with a key."""


def deployment(access: Access, status: dict[str, Any], example: Any) -> str:
    """Return the lines about one deployment that is ready. ``example`` is the package's input example, if the user gave one."""
    name = status["name"]
    url = f"{access.inference.url}/predict/{segment(name)}"
    lines = [f"{name} is ready: {status['model'].partition('@')[0]}@{status['version']}", f"  url      {url}"]
    metadata = access.inference.get(f"/v2/models/{segment(name)}")
    lines += [f"  {kind:<8} {_fields(metadata[kind])}" for kind in ("inputs", "outputs")]
    return "\n".join([*lines, f"  try      {_command(access, url, metadata, example)}"])


def server(urls: dict[str, Any]) -> str:
    """Return the lines about the server as a whole."""
    inference = urls["inference_url"]
    return f"\ndocs {inference}/docs   metrics {inference}/metrics   control {urls['control_url']}\nCtrl-C drains and ends"


def _fields(fields: list[dict[str, Any]]) -> str:
    notes = {True: " (optional)", False: ""}
    return ", ".join(f"{field['name']} {field['datatype']}{field['shape']}{notes['optional' in field]}" for field in fields)


def _command(access: Access, url: str, metadata: dict[str, Any], example: Any) -> str:
    """Return a shell line that asks for a prediction."""
    curl = ["curl", *_trust(access)]
    data = json.dumps(_example_row(example, metadata), ensure_ascii=False)
    if len(data) > _LONGEST:
        members = ", ".join(f"{json.dumps(field['name'])}: {_repeated(field, metadata)}" for field in _sent(metadata))
        made = shlex.quote(f"import json; print(json.dumps({{{members}}}))")
        return f"python3 -c {made} | {shlex.join([*curl, url, '-d', '@-'])}"
    if isinstance(example, dict) and isinstance(example.get("inputs"), list):
        # Not a row but a whole request of the Open Inference Protocol, which has a path of its own.
        url = f"{access.inference.url}/v2/models/{segment(metadata['name'])}/infer"
    return shlex.join([*curl, url, "-d", data])


def _trust(access: Access) -> list[str]:
    trust = ["--cacert", access.certificate] if access.certificate else []
    # Not the key itself: the line is on a screen, and soon in a shell's history.
    return [*trust, *(["-H", "authorization: Bearer YOUR-KEY"] if access.key else [])]


def _example_row(example: Any, metadata: dict[str, Any]) -> Any:
    """Return one row to send: of the user's example, else of plain values of the right types and shapes."""
    if isinstance(example, dict):
        return example
    if example and isinstance(example[0], dict):
        return example[0]
    inputs = metadata["inputs"]
    if example:
        return {inputs[0]["name"]: example[0] if _batched(metadata) else example}
    return {field["name"]: _nested(_SAMPLES.get(field["datatype"], 0), _row_shape(field, metadata)) for field in _sent(metadata)}


def _sent(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs that a request must have; all of them where none must be there, for a row of nothing is none."""
    inputs: list[dict[str, Any]] = metadata["inputs"]
    return [field for field in inputs if "optional" not in field] or inputs


def _batched(metadata: dict[str, Any]) -> bool:
    return all(field["shape"][:1] == [-1] for field in (*metadata["inputs"], *metadata["outputs"]))


def _row_shape(field: dict[str, Any], metadata: dict[str, Any]) -> list[int]:
    """Return the shape of one row's value, 1 for what varies; a column of width one is a bare value."""
    shape = field["shape"][1:] if _batched(metadata) else field["shape"]
    return [] if shape == [1] and _batched(metadata) else [max(size, 1) for size in shape]


def _nested(value: Any, shape: list[int]) -> Any:
    for size in reversed(shape):
        value = [value] * size
    return value


def _repeated(field: dict[str, Any], metadata: dict[str, Any]) -> str:
    """Return a Python expression of the value, short however large it is: ``[[0] * 224] * 224``."""
    text = repr(_SAMPLES.get(field["datatype"], 0))
    for size in reversed(_row_shape(field, metadata)):
        text = f"[{text}] * {size}"
    return text
