"""Protocol buffers in their text form, as other servers' settings are written: read strictly, into messages of a pool of our own."""

from __future__ import annotations

import re
import warnings
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from headgate.errors import PackageError, did_you_mean

MAX_BYTES = 4 << 20
"""Largest file that is read: settings are written by people."""

_PLACE = re.compile(r"(?P<line>\d+):\d+ : ")
_NO_FIELD = re.compile(r'Message type "(?P<message>[\w.]+)" has no field named "(?P<name>[^"]*)"')
_NO_VALUE = re.compile(r'Enum type "(?P<enum>[\w.]+)" has no value named (?P<name>\w+)')


class TextProto:
    """One kind of message, and the reader of its text form."""

    def __init__(self, package: str, message: str) -> None:
        """``message`` is a full name among the descriptors (``make protos`` compiles them) that lie beside the module ``package``."""
        self._package = package
        self._message = message

    def read(self, path: Path, name: str = "") -> Any:
        """Return the message in the file at ``path``; ``name`` is what errors call it, unless by its own.

        Raises `PackageError` that names file, line and the likely spelling; whatever is in the file, nothing else is raised.
        """
        name = name or path.name
        if path.stat().st_size > MAX_BYTES:
            raise PackageError(f"{name}: larger than {MAX_BYTES >> 20} MiB, so it is no settings of a model server")
        try:
            return self.parse(path.read_bytes().decode(), name)
        except UnicodeDecodeError as error:
            raise PackageError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start}); correct it") from None

    def parse(self, text: str, name: str) -> Any:
        """Return the message that ``text`` holds; ``name`` is what errors call it. Raises as `read` does."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of Python, for odd escapes in strings
                return text_format.Parse(text, self.new(), descriptor_pool=self._pool)
        except (text_format.ParseError, ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
            raise PackageError(self._words(name, str(error))) from None

    def new(self) -> Any:
        """Return a message with nothing in it."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(self._message))()

    @cached_property
    def _pool(self) -> Any:
        data = resources.files(self._package).joinpath("messages.binpb").read_bytes()
        pool = descriptor_pool.DescriptorPool()
        for entry in descriptor_pb2.FileDescriptorSet.FromString(data).file:
            pool.Add(entry)
        return pool

    def _words(self, name: str, said: str) -> str:
        place = _PLACE.match(said)
        where = f"{name}, line {place['line']}" if place else name
        if found := _NO_FIELD.search(said):
            known = list(self._pool.FindMessageTypeByName(found["message"]).fields_by_name)
            kind, last = "field", found["message"].rpartition(".")[2]
        elif found := _NO_VALUE.search(said):
            known = list(self._pool.FindEnumTypeByName(found["enum"]).values_by_name)
            kind, last = "value", found["enum"].rpartition(".")[2]
        else:
            return f"{where}: {said[place.end() if place else 0 :][:300].rstrip('.')}; correct it"
        hint = did_you_mean(found["name"], known) or "."
        return f"{where}: {last} has no {kind} {found['name'][:100]!r}{hint} Correct it, or leave it out"
