"""What a protocol buffer may unfold to: an empty message in a list has two bytes on the wire and a hundred in memory."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from headgate.errors import PayloadTooLarge
from headgate.protocols.base.wireformat import fields
from headgate.tensors import Buffer

_LIGHT = 1 << 20
"""Bytes up to which a message does not matter, whatever it holds."""
_MOST_FIELDS = 1 << 18
"""Fields of a larger one, those of the messages in it included: looking at so many takes a fraction of a second."""
_MOST_NUMBERS = 8 << 20
"""Numbers of varying length in a larger one: each takes up to eight bytes where it came as one."""
_NUMBERS: dict[int, Any] = {}
_VARYING = frozenset(
    {
        FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM,
    }
)  # fmt: skip
_CONTINUED = bytes(range(128, 256))
"""Bytes of a number behind which it goes on."""


def outline(message: Descriptor, known: dict[str, dict[int, Any]] | None = None) -> dict[int, Any]:
    """Return the numbers of the fields in which a message may unfold, each with the outline of what it holds."""
    known = {} if known is None else known
    if message.full_name not in known:
        found = known[message.full_name] = {}
        for field in message.fields:
            if field.message_type is not None:
                found[field.number] = outline(field.message_type, known)
            elif field.type in _VARYING:
                found[field.number] = _NUMBERS
    return known[message.full_name]


def check_unfolding(data: Buffer, message: dict[int, Any]) -> None:
    """Refuse a message of this `outline` that would take many times its bytes, before it does.

    Raises `PayloadTooLarge`; `ValueError` where the bytes are no message, or hold groups, behind which anything may stand.
    """
    if len(data) <= _LIGHT:
        return
    seen = numbers = 0
    todo = [(0, len(data), message)]
    while todo:
        start, stop, known = todo.pop()
        for field in fields(data, start, stop):
            seen += 1
            inner = known.get(field.number) if field.delimited else None
            if inner is _NUMBERS:
                numbers += len(bytes(data[field.start : field.stop]).translate(None, _CONTINUED))
            elif inner is not None:
                todo.append((field.start, field.stop, inner))
            if seen > _MOST_FIELDS or numbers > _MOST_NUMBERS:
                raise PayloadTooLarge(
                    f"a message of {len(data)} bytes may have {_MOST_FIELDS} fields and {_MOST_NUMBERS} numbers one by one, and this "
                    "one exceeds that; send tensors as bytes (raw_input_contents, tensor_content), or fewer at once"
                )
