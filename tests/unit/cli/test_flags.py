"""The flags of a deployment are the leaves of its spec: all of them, each once, read as the spec reads them."""

import argparse
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate.cli import flags
from headgate.cli.arguments import Parser
from headgate.errors import InvalidRequest
from headgate.serving.limit import Limits
from headgate.spec import DeploymentSpec, parse_spec
from headgate.units import parse_duration, parse_size

POSITIONAL = {"name", "model"}
"""Leaves that are said otherwise: by --name, and by what is deployed."""


def leaves(kind: type[msgspec.Struct], prefix: str = "") -> list[str]:
    """The paths of every setting of a spec."""
    found: list[str] = []
    for field in msgspec.structs.fields(kind):
        nested = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        found += leaves(field.type, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return found


def parse(*words: str) -> argparse.Namespace:
    """The flags in ``words``."""
    parser = Parser(prog="headgate test")
    flags.add_flags(parser)
    return parser.parse(words)


def test_every_setting_has_exactly_one_flag() -> None:
    """Whatever can be set can be set on the command line, in one way; and no flag sets what does not exist."""
    paths = Counter(path for flag in flags.FLAGS for path in flag.paths)
    assert paths == Counter(set(leaves(DeploymentSpec)) - POSITIONAL)
    assert len({flag.flag for flag in flags.FLAGS}) == len(flags.FLAGS)


def test_nothing_given_sets_nothing() -> None:
    """Flags that are not given leave the deployment's settings alone."""
    assert flags.settings(parse()) == {}


EVERYTHING = [
    "--replicas", "2", "--threads", "3", "--device", "cuda:1", "--memory", "2GiB", "--max-rows", "64", "--max-delay", "5ms",
    "--max-queue-rows", "100", "--timeout", "1.5", "--batch-timeout", "20s", "--load-timeout", "1m", "--no-idempotent",
    "--sequence-idle", "30s", "--max-sequences", "9", "--v1", "kserve", "--also", "1,2", "--strategy", "canary",
    "--steps", "0.5, 5 %,50%", "--bake", "10m", "--slo", "p99=80ms,errors=1%", "--min-events", "0", "--on-undecided", "rollback",
    "--max-duration", "2h", "--rollback-window", "0s", "--hooks", "https://a.example/x,y,http://b.example:81/",
    "--mirror", "20%", "--for", "30m", "--max-disagreement", "2.5",
]  # fmt: skip


def test_settings_arrive_in_the_spec() -> None:
    """Every flag sets its own leaf to what was typed."""
    spec = parse_spec({"name": "n", "model": "m", **flags.settings(parse(*EVERYTHING))})
    assert (spec.scale.min_replicas, spec.scale.max_replicas) == (2, 2)
    assert (spec.resources.threads, spec.resources.device, spec.resources.memory) == (3, "cuda:1", 2 << 30)
    assert (spec.batching.max_rows, spec.batching.max_delay, spec.batching.max_queue_rows) == (64, 0.005, 100)
    assert (spec.timeout, spec.batch_timeout, spec.load_timeout) == (1.5, 20.0, 60.0)
    assert (spec.idempotent, spec.v1, spec.also) == (False, "kserve", (1, 2))
    assert (spec.sequences.idle, spec.sequences.max_open) == (30.0, 9)
    rollout = spec.rollout
    assert (rollout.strategy, rollout.steps, rollout.bake) == ("canary", (0.5, 5.0, 50.0), 600.0)
    assert (rollout.slo, rollout.min_events, rollout.on_undecided) == ("p99=80ms,errors=1%", 0, "rollback")
    assert (rollout.max_duration, rollout.rollback_window) == (7200.0, 0.0)
    assert (rollout.mirror, rollout.lasts, rollout.max_disagreement) == (20.0, 1800.0, 2.5)
    assert [hook.url for hook in spec.hooks] == ["https://a.example/x,y", "http://b.example:81/"]


def test_everything_is_everything() -> None:
    """The test above leaves no flag out."""
    given_flags = flags.settings(parse(*EVERYTHING))
    assert set(leaves_of(given_flags)) == set(leaves(DeploymentSpec)) - POSITIONAL


def leaves_of(fields: dict[str, Any], prefix: str = "") -> list[str]:
    """The paths of the settings in ``fields``."""
    found: list[str] = []
    for key, value in fields.items():
        found += leaves_of(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def test_everything_can_be_handed_on() -> None:
    """What serve hands to its deployer says the same as what serve was given."""
    given_flags = parse(*EVERYTHING)
    assert flags.settings(parse(*flags.argv(given_flags))) == flags.settings(given_flags)


def accepts(read: Any, text: str) -> Any:
    """What ``read`` makes of ``text``, or None."""
    try:
        return read(text)
    except (ValueError, argparse.ArgumentTypeError):
        return None


QUANTITIES = st.from_regex(r"[0-9]{1,4}(\.[0-9])? ?(ms|s|m|h|d|B|KB|MiB|GB|x|)", fullmatch=True)


@given(QUANTITIES)
def test_durations_and_sizes_are_those_of_the_spec(text: str) -> None:
    """A quantity that the command line lets through is one the spec takes; with a unit, what the spec takes is let through."""
    for read, parse_text in ((flags.duration, parse_duration), (flags.size, parse_size)):
        seen = accepts(read, text)
        if seen is not None:
            parse_text(seen)
        assert (seen is not None) or accepts(parse_text, text) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--replicas", "0"], "--replicas: expected a whole number of at least 1, got '0'"),
        (["--max-delay", "5 parsecs"], "--max-delay: expected a duration"),
        (["--memory", "much"], "--memory: expected a size"),
        (["--device", "tpu"], "--device: expected 'cpu' or 'cuda:N'"),
        (["--v1", "mlflow"], "--v1: expected one of tfserving, kserve, truss"),
        (["--v1", "kserv"], "got 'kserv'; did you mean 'kserve'?"),
        (["--also", "1,champion"], "--also: expected a whole number"),
        (["--strategy", "blue-gren"], "got 'blue-gren'; did you mean 'blue-green'?"),
        (["--steps", "5;25"], "--steps: expected shares in percent such as 5,25,50, got '5;25'"),
        (["--mirror", "half"], "--mirror: expected a share in percent such as 20, got 'half'"),
        (["--on-undecided", "wait"], "--on-undecided: expected one of hold, promote, rollback, got 'wait'"),
        (["--hooks", "example.org"], "--hooks: expected URLs such as https://example.org/hook, got 'example.org'"),
        (["--min-events", "-1"], "--min-events: expected"),
        (["--min-events", "some"], "--min-events: expected a whole number of 0 or more, got 'some'"),
    ],
)
def test_wrong_values_are_refused_at_once(words: list[str], message: str) -> None:
    """A wrong value is refused before anything starts, with the flag, what was expected and what was given."""
    with pytest.raises(InvalidRequest) as raised:
        parse(*words)
    assert message in str(raised.value)


def test_limits_are_those_of_the_gateway() -> None:
    """Every limit of the inference port can be set, is read in its unit, and a wrong one is refused with the likely name."""
    assert set(flags.LIMITS) == {field.name for field in msgspec.structs.fields(Limits)}
    assert flags.limit("json_bytes=8MiB") == ("json_bytes", 8 << 20)
    assert flags.limit("head_seconds=2.5") == ("head_seconds", 2.5)
    assert flags.limit("connections=7") == ("connections", 7)
    for text, said in (
        ("json_byte=1", "did you mean 'json_bytes'"),
        ("json_bytes=much", "expected a size"),
        ("chunks=-1", "chunks"),
        ("connections=0", "more than 0"),
        ("head_bytes", "expected a size"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=said):
            flags.limit(text)


def test_a_host_that_hooks_may_call_is_a_host() -> None:
    """Names and addresses, with or without a port; what could match no URL is refused before anything starts."""
    for text in ("receiver", "10.0.0.7", "receiver.internal:8443", "[::1]:9000"):
        assert flags.host(text) == text
    for text in ("", "http://receiver", "receiver/x", "receiver:", "::1", "a b", "10.0.0.0/8"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected HOST or HOST:PORT"):
            flags.host(text)


def test_a_default_deployment_is_a_name_or_nothing() -> None:
    """What can be no deployment's name is refused before anything starts; nothing means that there is no default any more."""
    assert [flags.deployment(text) for text in ("fraud-2", "")] == ["fraud-2", ""]
    for text in ("a/b", "-x", " ", "ä", "x" * 129):
        with pytest.raises(argparse.ArgumentTypeError, match="expected the name of a deployment"):
            flags.deployment(text)
