"""Small rooms with honest names: sizes, names, and the few things that may stand in one place only."""

from __future__ import annotations

import ast
import re

import pytest
from source import Module, modules, qualified

MODULE_LINES = 400
CLASS_LINES = 250
FUNCTION_LINES = 60
ARGUMENTS = 6

EMPTY_MODULE_NAMES = frozenset("utils util utilities core common helpers helper services service misc shared tools".split())
EMPTY_CLASS_NAME = re.compile(r"(Manager|Handler|Factory|Helper|Helpers|Info|Utils|Util)$")

PICKLES = frozenset("pickle cPickle _pickle marshal shelve dill cloudpickle joblib".split())
MAY_UNPICKLE = {
    "runtimes.sklearn": "loads .joblib and .pkl; packaging has refused them without --trust-pickle",
    "runtimes.torch": "loads .pt of torch.save; packaging has refused it without --trust-pickle",
}

WALL_CLOCKS = frozenset("time.time time.time_ns datetime.now datetime.utcnow datetime.today date.today".split())

BOUNDARIES: dict[str, str] = {
    "runtimes": "what a framework or a user's model raises is documented nowhere; its words become the refusal or the answer",
    "serving.replica": "the worker loop: whatever a framework raises becomes an answer, and the replica lives on",
    "serving.worker": "the worker loop: whatever a model raises becomes an error frame, and the replica lives on",
    "serving.describe": "loads a model somebody handed in: whatever it raises is the text of a refusal",
    "serving.dryrun": "runs a model somebody handed in: whatever it raises is the text of a refusal",
    "testing": "a conformance suite says what a plugin raised, whatever it was",
    "control.reconcile": "the reconcile tick: an effect that failed is looked at again by the next tick",
    "control.judging": "the judge within the tick: what goes wrong with one rollout is its own, and promotes nobody",
    "control.api": "the HTTP edge of control",
    "cli.main": "the edge to the shell: an unexpected error is said in one line, with where its traceback lies",
}
"""Modules (or a shelf) that may catch everything, and why. Everybody else names what he expects."""


def lines(node: ast.AST) -> int:
    """Return how many lines ``node`` takes, its decorators not counted."""
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("module", modules(), ids=str)
def test_rooms_are_small(module: Module) -> None:
    """A module can be held in the head, a class in a glance, a function without scrolling; more arguments are a frozen spec."""
    too_large = []
    if (count := len(module.path.read_text().splitlines())) > MODULE_LINES:
        too_large.append(f"{count} lines")
    for name, node in qualified(module.tree):
        if isinstance(node, ast.ClassDef) and lines(node) > CLASS_LINES:
            too_large.append(f"class {name}: {lines(node)} lines")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if lines(node) > FUNCTION_LINES:
                too_large.append(f"{name}: {lines(node)} lines")
            positional = [
                argument.arg for argument in (*node.args.posonlyargs, *node.args.args) if argument.arg not in ("self", "cls")
            ]
            if len(positional) > ARGUMENTS:
                too_large.append(f"{name}: {len(positional)} positional arguments")
    assert not too_large, f"{module}: {'; '.join(too_large)}"


def test_no_module_is_named_after_nothing() -> None:
    """A name says what is inside: ``utils`` does not."""
    assert not [str(module) for module in modules() if EMPTY_MODULE_NAMES & set(module.name.split("."))]


def test_no_class_is_named_after_nothing() -> None:
    """A class is named for what it is; Manager, Handler, Factory, Helper and Info fit anything."""
    wrong = [
        f"{module}: {node.name}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and EMPTY_CLASS_NAME.search(node.name)
    ]
    assert not wrong


@pytest.mark.parametrize("module", modules(), ids=str)
def test_nothing_is_unpickled(module: Module) -> None:
    """Unpickling is running code: only the runtimes that load pickled models import it, behind --trust-pickle."""
    imported = {found.target.partition(".")[0] for found in module.imports if not found.typing} & PICKLES
    assert not imported or module.inner in MAY_UNPICKLE, f"{module} imports {imported}"
    allowing = [
        node.value.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.keyword)
        and node.arg == "allow_pickle"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    assert not allowing, f"{module}: numpy's allow_pickle in line {allowing}"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_time_is_an_argument(module: Module) -> None:
    """Only ``clock.py`` asks the machine what the wall clock says; everybody else takes a Clock, so that tests can hold one."""
    if module.inner == "clock":
        pytest.skip("the clock")
    calls = [ast.unparse(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)]
    asked = [call for call in calls if ".".join(call.split(".")[-2:]) in WALL_CLOCKS]
    named = [
        alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in ("time", "time_ns")
    ]
    assert not asked + named, f"{module}: {asked + named}"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_only_named_boundaries_catch_everything(module: Module) -> None:
    """A broad ``except`` hides what nobody thought of: it stands only where something must live on, and `BOUNDARIES` says why."""
    broad = [
        f"{name} (line {node.lineno})"
        for name, node in qualified(module.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node)
    ]
    # Cleaning up and raising again hides nothing.
    assert not broad or {module.inner, module.inner.partition(".")[0]} & BOUNDARIES.keys(), (
        f"{module} catches everything in {', '.join(broad)}"
    )


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    everything = any(kind is None or ast.unparse(kind).rpartition(".")[2] in ("Exception", "BaseException") for kind in caught)
    last = handler.body[-1]
    return everything and not (isinstance(last, ast.Raise) and last.exc is None)


def test_every_boundary_still_is_one() -> None:
    """A reason for something that is gone is removed; rooms that are not built yet are left alone."""
    for inner in BOUNDARIES:
        within = [module for module in modules() if f"{module.inner}.".startswith(f"{inner}.")]
        handlers = [node for module in within for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler)]
        assert not within or any(map(_is_broad, handlers)), f"{inner} no longer catches everything: take it off the list"
