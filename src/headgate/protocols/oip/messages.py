"""The message classes of the service ``inference.GRPCInferenceService``, in a descriptor pool of their own; and one as plain values."""

from __future__ import annotations

from collections.abc import MutableMapping, MutableSequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from headgate.protocols.base.grpc import Messages

MESSAGES = Messages("headgate.protocols.oip", "messages.binpb")
SERVICE = "inference.GRPCInferenceService"


def plain(written: Any) -> dict[str, Any]:
    """Return a message as Triton's HTTP shows it: every field under its own name, numbers as numbers, enums by their names.

    What can be absent (a message in a message, one of several choices) is left out where it is; everything else has its default.
    """
    fields: dict[str, Any] = {}
    for field in written.DESCRIPTOR.fields:
        if field.has_presence and not written.HasField(field.name):
            continue
        value = getattr(written, field.name)
        if isinstance(value, MutableMapping):
            of_value = field.message_type.fields_by_name["value"]
            fields[field.name] = {str(key): _value(of_value, value[key]) for key in value}
        elif isinstance(value, MutableSequence):
            fields[field.name] = [_value(field, item) for item in value]
        else:
            fields[field.name] = _value(field, value)
    return fields


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value
