"""One error tree in one file."""

from __future__ import annotations

import pytest

from headgate import errors
from headgate.errors import HeadgateError


def tree(kind: type[HeadgateError] = HeadgateError) -> list[type[HeadgateError]]:
    """Return ``kind`` and everything below it that the error file defines."""
    return [kind, *(found for child in kind.__subclasses__() for found in tree(child))]


@pytest.mark.parametrize("kind", tree())
def test_every_error_can_be_said(kind: type[HeadgateError]) -> None:
    """The text that goes in is the text a person reads, and a code brings the same class back."""
    error = kind("fraud: expected 3 columns, got 2; send all of them")
    assert str(error) == "fraud: expected 3 columns, got 2; send all of them"
    assert type(errors.by_code(kind.code, str(error))) is kind
    assert 400 <= kind.status <= 599
    assert 1 <= kind.grpc <= 16
    assert 1 <= kind.exit <= 9
    assert kind.__module__ == "headgate.errors", "errors are defined in errors.py, where they can be seen together"


def test_codes_are_unique() -> None:
    """A code names one error."""
    codes = [kind.code for kind in tree()]
    assert len(codes) == len(set(codes))


def test_the_tree_at_the_top_is_the_tree() -> None:
    """The drawing names every class, with its status where one stands beside it."""
    drawn = errors.__doc__ or ""
    for kind in tree():
        line = next((line for line in drawn.splitlines() if f" {kind.__name__} " in f" {line.strip()} "), None)
        assert line is not None, f"{kind.__name__} is missing in the drawing"
        assert f" {kind.status}" in line, f"{kind.__name__} has status {kind.status}: {line.strip()}"
