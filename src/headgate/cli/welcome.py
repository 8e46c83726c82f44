"""What a new user needs to know of a deployment: where it is, what it takes and gives, and a line to paste."""

from __future__ import annotations

import json
import shlex
from typing import Any, NamedTuple

from headgate.cli import rollout_view
from headgate.cli.api import Api, segment

_LONGEST = 400
"""Characters of an example that is still pasted as it is."""
_SAMPLES = {"BYTES": "text", "BOOL": True}


class Access(NamedTuple):
    """How the inference port is reached."""

    inference: Api
    certificate: str | None
    """The server's own, for clients that do not trust it otherwise."""
    key: bool
    """Whether requests are made with a key."""


def deployment(access: Access, status: dict[str, Any]) -> str:
    """Return the lines about one deployment that is ready."""
    name = status["name"]
    metadata = access.inference.get(f"/v2/models/{segment(name)}")
    path = "/v2/models/{}/infer" if metadata.get("stateful") else "/predict/{}"  # plain rows have no place for a sequence
    operation = access.inference.get("/openapi.json")["paths"][path.format(name)]["post"]
    row, path = operation["requestBody"]["content"]["application/json"]["example"], path.format(segment(name))
    return "\n".join(
        [
            _serves(status),
            f"  url      {access.inference.url}{path}",
            *(f"  {kind:<8} {_fields(metadata[kind])}" for kind in ("inputs", "outputs")),
            f"  try      {_command(access, path, metadata, row)}",
        ]
    )


def _serves(status: dict[str, Any]) -> str:
    """Say which version answers, and how another takes over from it."""
    rollout = rollout_view.of_revision(status, status["revision"])
    if rollout is None:
        return f"{status['name']} is ready: {status['model'].partition('@')[0]}@{status['version']}"
    stable = rollout["candidate" if status["serving"] == status["revision"] else "baseline"]["model"]
    return f"{status['name']} is ready: {stable}\n  {rollout_view.short(rollout)}"


def server(urls: dict[str, Any]) -> str:
    """Return the lines about the server as a whole."""
    inference = urls["inference_url"]
    return f"\ndocs {inference}/docs   metrics {inference}/metrics   control {urls['control_url']}\nCtrl-C drains and ends"


def _fields(fields: list[dict[str, Any]]) -> str:
    notes = {True: " (optional)", False: ""}
    return ", ".join(f"{field['name']} {field['datatype']}{field['shape']}{notes['optional' in field]}" for field in fields)


def _command(access: Access, path: str, metadata: dict[str, Any], row: dict[str, Any]) -> str:
    """Return a shell line that asks for a prediction."""
    events = ["-N", "-H", "accept: text/event-stream"] if metadata.get("streams") else []
    curl = ["curl", *events, *_trust(access), f"{access.inference.url}{path}", "-d"]
    data = json.dumps(row, ensure_ascii=False)
    if len(data) > _LONGEST and not metadata.get("stateful"):
        members = ", ".join(f"{json.dumps(field['name'])}: {_repeated(field, metadata)}" for field in _sent(metadata))
        made = shlex.quote(f"import json; print(json.dumps({{{members}}}))")
        return f"python3 -c {made} | {shlex.join([*curl, '@-'])}"
    return shlex.join([*curl, data])


def _trust(access: Access) -> list[str]:
    trust = ["--cacert", access.certificate] if access.certificate else []
    # Not the key itself: the line is on a screen, and soon in a shell's history.
    return [*trust, *(["-H", "authorization: Bearer YOUR-KEY"] if access.key else [])]


def _sent(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs that a request must have; all of them where none must be there, for a row of nothing is none."""
    inputs: list[dict[str, Any]] = metadata["inputs"]
    return [field for field in inputs if "optional" not in field] or inputs


def _batched(metadata: dict[str, Any]) -> bool:
    return all(field["shape"][:1] == [-1] for field in (*metadata["inputs"], *metadata["outputs"]))


def _repeated(field: dict[str, Any], metadata: dict[str, Any]) -> str:
    """Return a Python expression of one row's value, short however large it is: ``[[0] * 224] * 224``."""
    text = repr(_SAMPLES.get(field["datatype"], 0))
    shape = field["shape"][1:] if _batched(metadata) else field["shape"]
    for size in reversed(shape):
        text = f"[{text}] * {max(size, 1)}"
    return text
