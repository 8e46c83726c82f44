"""Predict requests as they come in over gRPC: read by the message class once, and known by their skeletons from then on.

Large tensors are cut out of a message before the message class sees it, which would copy them twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from headgate.errors import InvalidRequest
from headgate.protocols.base import Address, InferRequest, Plan
from headgate.protocols.base.skeletons import Skeletons
from headgate.protocols.base.wireformat import Field, delimited, fields
from headgate.protocols.tfserving.messages import PREDICT_REQUEST
from headgate.tensors import Buffer

LARGE = 32 * 1024
"""Bytes from which on tensors are cut out of a message."""
_INPUTS = 2
"""Of ``PredictRequest``: entries of a map, each with a name (1) and a tensor (2)."""
_NAME, _TENSOR = 1, 2
_CONTENT = 4
"""Of ``TensorProto``: ``tensor_content``."""
_BINARY = (_CONTENT, 5, 6)
"""Its fields that hold elements in their binary form: with them ``float_val`` and ``double_val``."""
_KEPT = 256


class Outline:
    """A message that is known but for its tensors. Plans keep what they have checked of it by its identity."""

    __slots__ = ("address",)

    def __init__(self, address: Address) -> None:
        self.address = address


class Incoming:
    """One request; ``message`` is None while its outline says all that is needed."""

    __slots__ = ("body", "contents", "message", "outline")

    def __init__(self, body: Buffer, outline: Outline | None) -> None:
        self.body = body
        self.outline = outline
        self.message: Any = None
        self.contents: Mapping[str, Buffer] = {}
        """``tensor_content`` of the inputs from which it has been cut."""

    def read(self) -> None:
        """Read the message. Raises `InvalidRequest` if the bytes are none."""
        body = self.body
        try:
            if len(body) >= LARGE:
                body, self.contents = _without_contents(body)
            self.message = PREDICT_REQUEST.FromString(body)
        except (DecodeError, ValueError) as error:
            raise InvalidRequest(f"the PredictRequest cannot be parsed: {error}") from None


class _Layout(NamedTuple):
    """What a plan has checked of a message that is known."""

    cuts: list[tuple[int, int, int]]
    """Index of the input, and where its elements start and stop in the message."""
    example: InferRequest

    def request(self, body: Buffer) -> InferRequest:
        """Return the request that a message like the example is."""
        first, view = self.example, memoryview(body)
        request = InferRequest.of(len(first.data))
        for index, start, stop in self.cuts:
            request.data[index] = view[start:stop]
        request.shapes, request.outputs, request.wire = first.shapes, first.outputs, first.wire
        request.rows, request.key = first.rows, first.key
        return request


class Known:
    """Which messages are known."""

    def __init__(self) -> None:
        self._skeletons: Skeletons[Outline] = Skeletons()

    def find(self, body: Buffer) -> Incoming:
        """Return what has come; it is read if it is not known. Raises `InvalidRequest`."""
        incoming = Incoming(body, self._skeletons.find(body))
        if incoming.outline is None:
            incoming.read()
        return incoming

    def request(self, incoming: Incoming, plan: Plan) -> InferRequest | None:
        """Return the request to infer, if ``plan`` has checked one like it."""
        layout: _Layout | None = plan.notes.get(incoming.outline) if incoming.outline is not None else None
        return layout.request(incoming.body) if layout is not None else None

    def keep(self, incoming: Incoming, address: Address, request: InferRequest, plan: Plan, model: Plan) -> None:
        """Know messages like this one from now on, where nothing in the bytes of its tensors had to be looked at.

        ``plan`` is that of the signature it is for, ``model`` that of the model, which is asked first.
        """
        given = [into for into in plan.inputs if request.data[into.index] is not None]
        if any(into.dtype.kind in ("bytes", "bool") for into in given):
            return
        view = memoryview(incoming.body)
        try:
            cuts = [(plan.by_name[name].index, start, stop) for name, start, stop in _tensors(view)]
        except (KeyError, ValueError):
            return  # the message class reads more than we do, or less: it skips an entry with a field that it does not know
        if len(cuts) != len(given) or any(view[start:stop] != request.data[index] for index, start, stop in cuts):
            return  # some have their elements one by one, in more or fewer bytes as they are larger or smaller
        outline = incoming.outline or Outline(address)
        if incoming.outline is None and not self._skeletons.keep(view, [(start, stop) for _, start, stop in cuts], outline):
            return
        if len(model.notes) >= _KEPT:
            model.notes.clear()
        example = InferRequest.of(len(request.data))
        for field in ("shapes", "outputs", "wire", "rows", "key"):
            setattr(example, field, getattr(request, field))
        model.notes[outline] = _Layout(cuts, example)


def _entries(message: Buffer) -> Iterator[tuple[Field, str, Field | None]]:
    """Yield the fields of a request; of inputs with their names and tensors. Raises `ValueError`."""
    for field in fields(message):
        name, tensor = "", None
        if field.number == _INPUTS and field.delimited:
            for part in fields(message, field.start, field.stop):
                if part.number == _NAME and part.delimited:
                    name = str(message[part.start : part.stop], "utf-8")
                elif part.number == _TENSOR and part.delimited:
                    if tensor is not None:
                        raise ValueError(f"the input {name!r} has more than one tensor")
                    tensor = part
        yield field, name, tensor


def _tensors(message: Buffer) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and stop of all elements that stand in their binary form. Raises `ValueError`."""
    for _, name, tensor in _entries(message):
        if tensor is not None:
            for field in fields(message, tensor.start, tensor.stop):
                if field.number in _BINARY and field.delimited:
                    yield name, field.start, field.stop


def _without_contents(message: Buffer) -> tuple[bytes, dict[str, Buffer]]:
    """Return a request without any ``tensor_content``, and those by input, uncopied. Raises `ValueError` where it is broken."""
    view = memoryview(message)
    rest: list[Buffer] = []
    contents: dict[str, Buffer] = {}
    for field, name, tensor in _entries(view):
        if tensor is None:
            rest.append(view[field.at : field.stop])
            continue
        parts: list[Buffer] = []
        contents.pop(name, None)  # of several entries of one name the last one counts
        for part in fields(view, tensor.start, tensor.stop):
            if part.number == _CONTENT and part.delimited:
                contents[name] = view[part.start : part.stop]
            else:
                parts.append(view[part.at : part.stop])
        rest.append(delimited(_INPUTS, delimited(_NAME, name.encode()) + delimited(_TENSOR, b"".join(parts))))
    return b"".join(rest), contents
