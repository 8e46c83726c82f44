"""Path patterns (see `headgate.protocols.base.Route`), and which of them a path fits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from headgate.protocols.base import Protocol, Route


class Endpoint(NamedTuple):
    """Where a request goes."""

    protocol: Protocol
    route: Route
    infers: bool


class Paths:
    """Endpoints, found by path."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.endpoints = list(endpoints)
        self._exact: dict[tuple[int, str], list[tuple[list[_Segment], Endpoint]]] = {}
        """By the number of segments and the first of them."""
        self._open: list[tuple[list[_Segment], Endpoint]] = []
        """Those that end in ``{rest*}``."""
        for endpoint in self.endpoints:
            parts = endpoint.route.path.split("/")[1:]
            entry = ([_Segment(part) for part in parts], endpoint)
            if parts[-1].endswith("*}"):
                self._open.append(entry)
            else:
                self._exact.setdefault((len(parts), parts[0]), []).append(entry)

    def find(self, segments: Sequence[str]) -> Iterator[tuple[Endpoint, Mapping[str, str]]]:
        """Yield the endpoints whose patterns the (decoded) segments of a path fit, with the path's variables."""
        for pattern, endpoint in self._exact.get((len(segments), segments[0]), ()):
            params = _fits(pattern, segments)
            if params is not None:
                yield endpoint, params
        for pattern, endpoint in self._open:
            if len(segments) >= len(pattern):
                params = _fits(pattern, [*segments[: len(pattern) - 1], "/".join(segments[len(pattern) - 1 :])])
                if params is not None:
                    yield endpoint, params


class _Segment:
    """One segment of a pattern: a literal, or a variable with what follows it."""

    __slots__ = ("digits", "end", "literal", "name")

    def __init__(self, text: str) -> None:
        variable = re.fullmatch(r"\{(\w+)([*#]?)\}(.*)", text)
        self.literal = None if variable else text
        self.name, kind, self.end = variable.groups() if variable else ("", "", "")
        self.digits = kind == "#"


def _fits(pattern: list[_Segment], segments: Sequence[str]) -> dict[str, str] | None:
    params = {}
    for want, got in zip(pattern, segments, strict=True):
        if want.literal is not None:
            if want.literal != got:
                return None
        elif len(got) > len(want.end) and got.endswith(want.end):
            value = params[want.name] = got.removesuffix(want.end)
            if want.digits and not (value.isascii() and value.isdecimal()):
                return None
        else:
            return None
    return params
