"""Answers as protocol buffers, put together by hand: what does not change from one answer to the next is kept as bytes.

They are what the message class ``inference.ModelInferResponse`` would write, byte for byte, at a fraction of the cost.
"""

from __future__ import annotations

from headgate.protocols.base import InferRequest, InferResponse, OutputTensor
from headgate.protocols.base.wireformat import delimited, tag, varint
from headgate.protocols.oip.classification import with_classes
from headgate.tensors import Buffer

_FINAL_RESPONSE = delimited(1, b"triton_final_response")
FINAL = delimited(4, _FINAL_RESPONSE + delimited(2, b"\x08\x01"))
"""The parameter ``triton_final_response`` with the value true: of the answers to one request, this is the last."""
NOT_FINAL = delimited(4, _FINAL_RESPONSE + delimited(2, b"\x08\x00"))
"""The same with false."""
_RAW = tag(6)


class Answers:
    """Writes ``inference.ModelInferResponse``."""

    def __init__(self) -> None:
        self._before: dict[tuple[object, ...], bytes] = {}
        self._heads: dict[tuple[str, str], bytes] = {}
        self._described: dict[tuple[object, ...], bytes] = {}

    def write(self, request: InferRequest, response: InferResponse, parameters: bytes = b"") -> bytes:
        """Return the answer: outputs as asked for, in that order, always raw.

        ``request.outputs`` holds indices, or None; ``request.wire`` of which of them classes are asked for, or None.
        """
        outputs = response.outputs
        if request.outputs is not None and outputs:  # none follow the last part of an answer
            if request.wire is not None:
                outputs = with_classes(outputs, request.wire)
            outputs = [outputs[index] for index in request.outputs]
        if len(outputs) == 1 and request.id is None and not parameters:
            return self._write_one(response, outputs[0])
        parts: list[Buffer] = [self._head(response.model, response.version)]
        if request.id is not None:
            parts.append(delimited(3, request.id.encode()))
        parts.append(parameters)
        for output in outputs:
            parts.append(self._describe(output))
        for output in outputs:
            data = output.data
            parts += (_RAW, varint(len(data)), data)
        return b"".join(parts)

    def _write_one(self, response: InferResponse, output: OutputTensor) -> bytes:
        """The short way: one output, with nothing of this request's own but its data, which comes last."""
        key = (response.model, response.version, output.name, output.dtype.code, tuple(output.shape), len(output.data))
        before = self._before.get(key)
        if before is None:
            if len(self._before) > 10_000:
                self._before.clear()
            size = varint(len(output.data))
            before = self._before[key] = self._head(response.model, response.version) + self._describe(output) + _RAW + size
        return before + output.data

    def _head(self, model: str, version: str) -> bytes:
        head = self._heads.get((model, version))
        if head is None:
            if len(self._heads) > 1000:  # names come and go with deployments
                self._heads.clear()
            head = self._heads[model, version] = delimited(1, model.encode()) + delimited(2, version.encode())
        return head

    def _describe(self, output: OutputTensor) -> bytes:
        """Name, datatype and shape."""
        key = (output.name, output.dtype.name, *output.shape)
        described = self._described.get(key)
        if described is None:
            if len(self._described) > 10_000:
                self._described.clear()
            text = delimited(1, output.name.encode()) + delimited(2, output.dtype.name.encode())
            if output.shape:
                text += delimited(3, b"".join(map(varint, output.shape)))
            described = self._described[key] = delimited(5, text)
        return described
