"""The steps of any ensemble run after what they wait for; where that cannot be, the circle is told."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, strategies as st

from headgate.errors import PackageError
from headgate.package.folders.triton.ensemble import Step, steps_of
from headgate.package.folders.triton.format import MODEL_CONFIG

GRAPHS = st.integers(1, 8).flatmap(
    lambda size: st.tuples(
        st.tuples(*(st.sets(st.integers(0, at), min_size=1) for at in range(size))), st.permutations(range(size)), st.randoms()
    )
)
"""For each step the tensors that it takes (0 comes with the request, step ``n`` gives ``n + 1``), and an order of declaration."""


def config_of(takes: list[set[int]], order: list[int]) -> object:
    """The configuration of an ensemble in which every tensor that no step takes is an output."""
    config = MODEL_CONFIG.new()
    taken = set().union(*takes)
    config.input.add(name="0")
    for tensor in range(1, len(takes) + 1):
        if tensor not in taken:
            config.output.add(name=str(tensor))
    for at in order:
        step = config.ensemble_scheduling.step.add(model_name=f"m{at}")
        step.output_map["Y"] = str(at + 1)
        for tensor in takes[at]:
            step.input_map[f"X{tensor}"] = str(tensor)
    return config


def places(steps: list[Step]) -> dict[str, int]:
    """Where each model runs."""
    return {step.model: place for place, step in enumerate(steps)}


@given(GRAPHS)
def test_every_step_follows_what_it_takes(graph) -> None:
    """All of them run, once, whatever the order in the file; and where that order works, it is kept."""
    takes, order, _ = graph
    takes = [takes[0] | {0}, *takes[1:]]
    place = places(steps_of(config_of(takes, order), ""))
    assert sorted(place.values()) == list(range(len(takes)))
    assert all(place[f"m{tensor - 1}"] < place[f"m{at}"] for at, wanted in enumerate(takes) for tensor in wanted - {0})
    straight = list(range(len(takes)))
    assert [int(step.model[1:]) for step in steps_of(config_of(takes, straight), "")] == straight


@given(GRAPHS)
def test_a_circle_is_told(graph) -> None:
    """One more line, from a step to one that it waits for, and no order works; each step that is told takes what the next one gives."""
    takes, order, random = graph
    wanted = [set(takes[0]) | {0}, *map(set, takes[1:])]
    late = random.randrange(len(wanted))
    path = {late}
    while rest := {tensor - 1 for at in path for tensor in wanted[at] if tensor} - path:
        path |= rest
    wanted[random.choice(sorted(path))].add(late + 1)
    with pytest.raises(PackageError) as caught:
        steps_of(config_of(wanted, order), "")
    told = [int(name) for name in re.findall(r"\(m(\d+)\)", str(caught.value))]
    assert len(told) > 1 and told[0] == told[-1]
    assert all(giver + 1 in wanted[taker] for taker, giver in itertools.pairwise(told))
