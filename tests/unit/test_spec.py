"""The deployment spec: what is refused, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate.errors import SpecError
from headgate.spec import DeploymentSpec, parse_reference, parse_spec, spec_fields
from headgate.units import parse_duration, parse_size


def spec(**fields: Any) -> DeploymentSpec:
    """A spec with these fields beside the two that must be there."""
    return parse_spec({"name": "fraud", "model": "fraud@1", **fields})


def test_a_spec_survives_its_plain_form() -> None:
    """What is stored and sent is read back as the same spec."""
    made = spec(
        batching={"max_delay": "5ms", "max_rows": 8}, resources={"memory": "2GiB", "threads": 2}, also=[1, 2], idempotent=True
    )
    assert parse_spec(spec_fields(made)) == made
    assert (made.batching.max_delay, made.resources.memory) == (0.005, 2 << 30)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batchin": {}}, r"batchin: there is no such setting; did you mean 'batching'\?"),
        ({"batching": {"maxrows": 1}}, r"batching\.maxrows: there is no such setting; did you mean 'max_rows'\?"),
        ({"zzz": 1}, r"zzz: there is no such setting\. Known here: name, model"),
        ({"batching": {"max_rows": "many"}}, r"batching\.max_rows: expected `int \| null`, got `str`"),
        ({"batching": {"max_rows": 0}}, r"batching\.max_rows: expected at least 1, got 0"),
        ({"batching": {"max_delay": "soon"}}, r"batching\.max_delay: expected a duration such as '250ms'"),
        ({"resources": {"memory": "2 gigs"}}, r"resources\.memory: expected a size such as '512MiB'"),
        ({"resources": {"threads": 0}}, r"resources\.threads: expected at least 1, got 0"),
        ({"resources": {"device": "gpu"}}, r"resources\.device: expected 'cpu' or 'cuda:N', got 'gpu'"),
        ({"timeout": 0}, r"timeout: expected more than 0 seconds, got 0"),
        ({"scale": {"min_replicas": 2, "max_replicas": 1}}, r"scale\.max_replicas: expected at least 2, got 1"),
        ({"scale": {"min_replicas": 1, "max_replicas": 3}}, r"scale\.max_replicas: there is no autoscaler yet"),
        ({"v1": "tfservin"}, r"v1: expected tfserving, kserve or truss, got 'tfservin'; did you mean 'tfserving'\?"),
        ({"name": "a/b"}, r"name: expected 1 to 128 letters"),
        ({"name": "../etc"}, r"name: expected 1 to 128 letters"),
        ({"model": "a b"}, r"model: expected 'model', 'model@3' or 'model@alias'"),
        ({"batching": 3}, r"batching: expected `object`, got `int`"),
        ({"rollout": {}}, r"rollout: there is no such setting"),
    ],
)
def test_mistakes_are_named(fields: dict[str, Any], said: str) -> None:
    """Every mistake names its path, what was expected and what was given; unknown keys the likely spelling."""
    with pytest.raises(SpecError, match=said):
        spec(**fields)


def test_what_must_be_there_is_said() -> None:
    """A spec without a model says so."""
    with pytest.raises(SpecError, match="model"):
        parse_spec({"name": "fraud"})


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("10s", 10), ("1.5m", 90), ("1h", 3600), ("2d", 172800), (3, 3)])
def test_durations(text: str | int, seconds: float) -> None:
    """Durations are seconds, whatever their unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", -1, "1 week", None, True, float("inf"), float("nan")])
def test_what_is_no_duration_is_refused(text: object) -> None:
    """Nothing is guessed: a number in quotes has no unit."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("512MiB", 512 << 20), ("2GB", 2 * 10**9), ("1.5KiB", 1536), (7, 7)])
def test_sizes(text: str | int, size: int) -> None:
    """Sizes are bytes; KiB counts in 1024, KB in 1000."""
    assert parse_size(text) == size


def test_references() -> None:
    """A version is a number, an alias is not, and neither is the newest."""
    assert parse_reference("fraud") == ("fraud", None)
    assert parse_reference("fraud@3") == ("fraud", 3)
    assert parse_reference("fraud@champion") == ("fraud", "champion")
    for bad in ("", "@3", "fraud@", "a@b@c", "a/b@1"):
        with pytest.raises(SpecError):
            parse_reference(bad)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nothing_but_a_spec_error(value: Any) -> None:
    """Whatever JSON stands where a setting should: it is taken, or it is a SpecError, never another exception."""
    for path in ("batching", "resources", "timeout", "also", "idempotent"):
        try:
            spec(**{path: value})
        except SpecError as error:
            assert error.args  # noqa: PT017  (either outcome is right)
