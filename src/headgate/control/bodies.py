"""Bodies of requests: bounded, and checked before anybody looks into them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from headgate.errors import InvalidRequest, PayloadTooLarge, ReceiveTimeout

JSON_BYTES = 4 << 20
JSON_SECONDS = 60.0
CHUNK_SECONDS = 60.0
"""How long an upload may stand still."""

T = TypeVar("T", bound=msgspec.Struct)


class VersionBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST ``/models/{name}/versions``."""

    digest: str
    note: str = ""
    trusted_by: str | None = None
    relock: bool = False
    number: int | None = None


class AliasBody(msgspec.Struct, forbid_unknown_fields=True):
    """PUT ``/models/{name}/aliases/{alias}``."""

    version: int


class KeyBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST ``/keys``."""

    scopes: list[str]
    name: str = ""


class WhyBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST ``/deployments/{name}/rollout/{verb}`` and ``.../rollback``."""

    why: str = ""
    """For the history."""


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object. Raises `InvalidRequest`, `PayloadTooLarge` or `ReceiveTimeout`."""
    data = bytearray()
    try:
        async with asyncio.timeout(JSON_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > JSON_BYTES:
                    raise PayloadTooLarge(f"body: more than {JSON_BYTES} bytes of JSON; nothing was done")
    except TimeoutError:
        raise ReceiveTimeout(f"body: not there after {JSON_SECONDS:g} s; nothing was done") from None
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"body: expected JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"body: expected a JSON object, got {type(value).__name__}")
    return value


async def json_struct(request: Request, kind: type[T]) -> T:
    """Return the body as a ``kind``. Raises like `json_object`, naming the field."""
    fields = await json_object(request)
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(f"{path.rstrip('`') or 'body'}: {text[:1].lower()}{text[1:]}") from None


async def to_disk(request: Request, target: Path, limit: int) -> None:
    """Write the body to ``target``. Raises `PayloadTooLarge` above ``limit`` bytes, `ReceiveTimeout` when it stands still."""
    written = 0
    chunks = request.stream()
    with open(target, "xb") as file:
        while True:
            try:
                async with asyncio.timeout(CHUNK_SECONDS):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise ReceiveTimeout(f"body: nothing came for {CHUNK_SECONDS:g} s; nothing was stored") from None
            if chunk is None:
                return
            written += len(chunk)
            if written > limit:
                raise PayloadTooLarge(f"body: more than {limit} bytes; nothing was stored")
            await asyncio.to_thread(file.write, chunk)
