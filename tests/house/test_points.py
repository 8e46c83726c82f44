"""Every point of the checklists that the protocols are held to is shown by a test that is named by its number.

The checklists: the Open Inference Protocol (P), Triton's extensions of it (X), TensorFlow Serving (P, in a folder of its own), and the
contracts of a Truss (its files C, its class M, its paths H, its secrets S) and of an MLflow folder (L).
"""

from __future__ import annotations

import ast
import functools
import re

from source import ROOT

TESTS = ROOT / "tests"
NUMBER = re.compile(r"[pxchmsl]\d+")
OWN = "conformance/tfserving"
ELSEWHERE = {
    "x5": "process/test_serve_model_control.py::test_files_never_come_over_the_wire",
    "c1": "unit/package/test_truss_folder.py::test_a_yml_is_told_from_a_yaml",
    "c2": "runtimes/test_truss_runtime.py::test_a_class_that_is_not_there",
    "c3": "unit/package/test_truss_folder.py::test_files_lie_where_they_do_in_a_running_truss",
    "c4": "unit/package/test_truss_folder.py::test_files_lie_where_they_do_in_a_running_truss",
    "c5": "runtimes/test_truss_runtime.py::test_relative_imports_are_as_little_supported_as_by_truss",
    "m1": "unit/package/test_truss_folder.py::test_the_runtime_is_told_what_the_config_says",
    "m2": "process/test_serve_truss.py::test_a_truss_answers_as_its_own_server_does",
    "m4": "runtimes/test_truss_runtime.py::test_what_is_not_offered_is_refused",
    "m5": "unit/package/test_truss_folder.py::test_what_the_code_has_and_nobody_calls_is_said",
    "m7": "runtimes/test_truss_runtime.py::test_what_is_not_offered_is_refused",
    "m8": "runtimes/test_truss_runtime.py::test_what_is_not_offered_is_refused",
    "m9": "runtimes/test_truss_runtime.py::test_requests_share_a_replica_as_far_as_the_config_says",
    "h17": "conformance/grpc_wire/test_grpc_wire_calls.py::test_keys",
    "s1": "runtimes/test_truss_runtime.py::test_secrets_are_looked_up_when_they_are_asked_for",
    "l1": "unit/package/test_mlflow_folder.py::test_a_folder_is_loaded_by_mlflow",
    "l2": "process/test_serve_mlflow.py::test_a_folder_answers_as_mlflows_own_server_does",
    "l5": "unit/package/test_mlflow_folder.py::test_the_input_example_becomes_the_packages",
    "l6": "unit/package/test_mlflow_folder.py::test_requirements_become_the_environment",
    "l7": "process/test_serve_mlflow.py::test_a_tracking_servers_models",
}
"""Points whose tests are of a part that knows no protocol, or of several points at once."""
NOT_HERE = {
    "m3": "environments of Baseten's, which change while the model runs: there is one, and config.yaml has none to say",
    "h15": "a header of Baseten's for its logs: x-request-id is what joins requests and lines here",
    "h16": "the port and the end of a Truss's own server: here they are those of the server that serves all models",
}
"""Points that bind another server's parts, and why nothing here could show them."""


@functools.cache
def functions() -> dict[str, set[str]]:
    """Return the test functions of each file, by its path below the tests."""
    found = {}
    for path in TESTS.rglob("test_*.py"):
        body = ast.parse(path.read_text()).body
        found[str(path.relative_to(TESTS))] = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return found


def numbers(*, tfserving: bool) -> set[str]:
    """Return the points that tests are named by, without zeros: those of TensorFlow Serving's checklist, or of all others."""
    found = set()
    for path, names in functions().items():
        if path.startswith(OWN) is tfserving:
            for name in names:
                for word in name.split("_")[1:]:
                    if not NUMBER.fullmatch(word):
                        break
                    found.add(f"{word[0]}{int(word[1:])}")
    return found


def points(letter: str, last: int) -> set[str]:
    """Return all points of a list."""
    return {f"{letter}{number}" for number in range(1, last + 1)}


def test_every_point_has_its_test() -> None:
    """By number, or listed above with the test that shows it, or with the reason why none can; and no point is listed for nothing."""
    wanted = (
        points("p", 80) | points("x", 22) | points("c", 5) | points("m", 10) | points("h", 17) | points("s", 1) | points("l", 7)
    )
    named = numbers(tfserving=False)
    assert not wanted - named - ELSEWHERE.keys() - NOT_HERE.keys(), "these have no test"
    assert not named - wanted, "there are no such points"
    assert not named & (ELSEWHERE.keys() | NOT_HERE.keys()), "these have a test of their own by now"
    assert ELSEWHERE.keys() | NOT_HERE.keys() <= wanted


def test_every_point_of_tensorflow_serving_has_its_test() -> None:
    """The same for the other list of that letter."""
    found = numbers(tfserving=True)
    assert found <= points("p", 60)
    assert not points("p", 60) - found


def test_what_is_listed_is_there() -> None:
    """A test that was renamed or moved must be listed anew."""
    for listed in ELSEWHERE.values():
        path, _, name = listed.partition("::")
        assert name in functions().get(path, set()), listed
