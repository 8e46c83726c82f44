"""The deployment spec: what is refused, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate.errors import SpecError
from headgate.spec import DeploymentSpec, parse_reference, parse_spec, spec_fields
from headgate.units import duration_text, parse_duration, parse_size, size_text


def spec(**fields: Any) -> DeploymentSpec:
    """A spec with these fields beside the two that must be there."""
    return parse_spec({"name": "fraud", "model": "fraud@1", **fields})


def test_a_spec_survives_its_plain_form() -> None:
    """What is stored and sent is read back as the same spec."""
    made = spec(
        batching={"max_delay": "5ms", "max_rows": 8},
        resources={"memory": "2GiB", "threads": 2},
        also=[1, 2],
        idempotent=True,
        hooks=["https://a.example/x?y=1", {"command": ["notify", "-v"], "events": ["promoted"]}],
        rollout={"strategy": "canary", "steps": [0.5, 20, 100], "bake": "10m", "on_undecided": "rollback"},
    )
    assert parse_spec(spec_fields(made)) == made
    assert (made.batching.max_delay, made.resources.memory) == (0.005, 2 << 30)
    assert (made.rollout.steps, made.rollout.bake) == ((0.5, 20.0, 100.0), 600.0)


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
        ({"rollout": {"step": [5]}}, r"rollout\.step: there is no such setting; did you mean 'steps'\?"),
        ({"rollout": {"strategy": "canry"}}, r"rollout\.strategy: expected replace, .* got 'canry'; did you mean 'canary'\?"),
        (
            {"rollout": {"on_undecided": "promot"}},
            r"rollout\.on_undecided: expected hold, .* got 'promot'; did you mean 'promote'\?",
        ),
        ({"rollout": {"steps": [5, 50, 120]}}, r"rollout\.steps: expected shares from 0\.01 to 100 percent, got 5, 50, 120"),
        ({"rollout": {"steps": [0]}}, r"rollout\.steps: expected shares from 0\.01 to 100 percent, got 0"),
        ({"rollout": {"steps": [float("nan")]}}, r"rollout\.steps: expected shares from 0\.01 to 100 percent, got nan"),
        ({"rollout": {"steps": [25, 5]}}, r"rollout\.steps: expected rising shares, got 25, 5; .* abort the rollout"),
        ({"rollout": {"steps": [5, 5]}}, r"rollout\.steps: expected rising shares, got 5, 5"),
        ({"rollout": {"steps": []}}, r"rollout\.steps: expected at least one share in percent"),
        ({"rollout": {"steps": "5, 25"}}, r"rollout\.steps: expected `array`, got `str`"),
        ({"rollout": {"bake": "-10s"}}, r"rollout\.bake: expected a duration such as"),
        ({"rollout": {"bake": -10}}, r"rollout\.bake: expected a duration such as"),
        ({"rollout": {"rollback_window": "an hour"}}, r"rollout\.rollback_window: expected a duration such as"),
        ({"rollout": {"mirror": 0}}, r"rollout\.mirror: expected 0\.01 to 100 percent, got 0; it is percent, not a fraction"),
        ({"rollout": {"mirror": 101}}, r"rollout\.mirror: expected 0\.01 to 100 percent, got 101"),
        ({"rollout": {"lasts": 0}}, r"rollout\.lasts: expected more than 0 seconds, got 0"),
        ({"rollout": {"max_disagreement": 0}}, r"rollout\.max_disagreement: expected 0\.01 to 100 percent, got 0"),
        ({"rollout": {"max_disagreement": 100}}, r"rollout\.max_disagreement: 100 percent may always differ"),
        (
            {"rollout": {"strategy": "shadow", "lasts": "25h"}},
            r"rollout\.lasts: expected at most max_duration \(86400 s\), got 90000 s: .* raise max_duration too",
        ),
        ({"rollout": {"max_duration": 0}}, r"rollout\.max_duration: expected more than 0 seconds, got 0"),
        ({"hooks": "https://a.example"}, r"hooks: expected `array`, got `str`"),
        ({"hooks": [{"link": "https://a.example"}]}, r"hooks\[0\]\.link: there is no such setting.* Known here: url, command"),
        ({"hooks": [{"event": ["begun"]}]}, r"hooks\[0\]\.event: there is no such setting; did you mean 'events'\?"),
        ({"hooks": [{}]}, r"hooks\[0\]: expected either a url or a command"),
        ({"hooks": [{"url": "https://a.example", "command": ["x"]}]}, r"hooks\[0\]: expected either a url or a command"),
        ({"hooks": ["https://a.example", 3]}, r"hooks\[1\]: expected `object`, got `int`"),
        ({"hooks": ["ftp://a.example"]}, r"hooks\[0\]\.url: expected a URL such as .* got 'ftp://a\.example'"),
        ({"hooks": ["file:///etc/passwd"]}, r"hooks\[0\]\.url: expected a URL such as"),
        ({"hooks": ["https://a.example/x\r\ny: z"]}, r"hooks\[0\]\.url: expected a URL such as"),
        ({"hooks": ["https://a.example:99999/"]}, r"hooks\[0\]\.url: expected a URL such as"),
        ({"hooks": ["https://[::1/"]}, r"hooks\[0\]\.url: expected a URL such as"),
        ({"hooks": ["https://me:word@a.example/"]}, r"hooks\[0\]\.url: a URL with a user or password would be shown"),
        (
            {"hooks": [{"url": "https://a.example", "events": ["promotd"]}]},
            r"hooks\[0\]\.events: expected begun, .* got 'promotd'; did you mean 'promoted'\?",
        ),
        ({"hooks": [{"command": ["notify", ""]}]}, r"hooks\[0\]\.command: expected a program and its arguments"),
        ({"hooks": [{"command": "rm -r /"}]}, r"hooks\[0\]\.command: expected `array`, got `str`"),
        ({"hooks": [{"command": ["x"], "secret": "S"}]}, r"hooks\[0\]\.secret: expected the name of a secret"),
        ({"hooks": [{"url": "https://a.example", "secret": "../key"}]}, r"hooks\[0\]\.secret: expected the name of a secret"),
        ({"hooks": ["https://a.example", {"url": "https://a.example"}]}, r"hooks\[1\]: the same as hooks\[0\]"),
        ({"hooks": [f"https://a{n}.example" for n in range(17)]}, r"hooks: expected at most 16, got 17"),
        ({"rollout": {"min_events": -1}}, r"rollout\.min_events: expected at least 0, got -1"),
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


@given(st.one_of(st.integers(0, 10**7), st.floats(0, 10**7)))
def test_durations_are_written_as_they_are_read(seconds: float) -> None:
    """What is shown of a duration is what may be typed for it, to the nanosecond."""
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (1.5, "1500ms"), (90, "90s"), (3600, "1h"), (86400, "1d"), (1 / 3, "0.333333333s")],
)
def test_durations_are_written_in_a_unit_that_is_read_at_a_glance(seconds: float, text: str) -> None:
    """The largest unit that says it without a fraction."""
    assert duration_text(seconds) == text


@given(st.integers(0, 1 << 50))
def test_sizes_are_written_as_they_are_read(size: int) -> None:
    """What is shown of a size is what may be typed for it."""
    assert parse_size(size_text(size)) == size
    assert size_text(2 << 30) == "2GiB"


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
    for path in ("batching", "resources", "timeout", "also", "idempotent", "rollout"):
        try:
            spec(**{path: value})
        except SpecError as error:
            assert error.args  # noqa: PT017  (either outcome is right)
    for key in ("strategy", "steps", "bake", "min_events", "on_undecided"):
        try:
            spec(rollout={key: value})
        except SpecError as error:
            assert error.args  # noqa: PT017  (either outcome is right)
