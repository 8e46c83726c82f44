"""Typing errors, in flags and in the keys of a spec: refused with the likely spelling, by exit code 2 or status 400."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_home import Serving, ServingHome

from headgate import errors


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingHome]:
    """A home without a server."""
    found = ServingHome(tmp_path_factory.mktemp("input") / "h")
    found.write("twice.py", "class Twice:\n    def predict(self, x: int) -> int:\n        return 2 * x\n")
    yield found
    found.close()


@pytest.fixture(scope="module")
def serving(home: ServingHome) -> Serving:
    """A server with one deployment."""
    return home.serve(str(home.folder / "twice.py"), "--threads", "1").until_ready("twice").until_settled()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sreve", "twice.py"], "did you mean 'serve'"),
        (["serve", "twice.py", "--prot", "8080"], "did you mean '--port'"),
        (["serve", "twice.py", "--max-row=8"], "did you mean '--max-rows'"),
        (["deploy", "twice", "--batch-timout", "1s"], "did you mean '--batch-timeout'"),
        (["serve", "twice.py", "--timeout", "ten"], "expected a duration such as"),
        (["serve", "twice.py", "--memory", "lots"], "expected a size such as"),
        (["serve", "twice.py", "--replicas", "0"], "expected a whole number of at least 1"),
        (["serve", "twice.py", "--device", "gpu"], "expected 'cpu' or 'cuda:N'"),
        (["serve", "twice.py", "--port", "99999"], "is not a port"),
        (["key", "create", "--scope", "amdin"], "admin"),
    ],
)
def test_a_wrong_word_is_explained(home: ServingHome, words: list[str], said: str) -> None:
    """An unknown command or flag, or a value that cannot be, ends with exit code 2, one line, and what was likely meant."""
    target = [str(home.folder / word) if word == "twice.py" else word for word in words]
    refused = home.run(*target)
    assert refused.returncode == errors.InvalidRequest.exit == 2, refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batchin": {"max_rows": 2}}, "did you mean 'batching'"),
        ({"batching": {"max_row": 2}}, "batching.max_row: there is no such setting; did you mean 'max_rows'"),
        ({"timeout": "ten"}, "timeout: expected a duration"),
        ({"resources": {"memory": "2 gigs"}}, "resources.memory: expected a size"),
        ({"scale": {"min_replicas": 0, "max_replicas": 0}}, "scale.min_replicas: expected at least 1"),
        ({"scale": {"min_replicas": "2"}}, "scale.min_replicas: expected `int`"),
        ({"name": "else"}, "name: expected 'twice'"),
        ({"v1": "tfservin"}, "did you mean 'tfserving'"),
        ({"also": [77]}, "77"),
    ],
)
def test_a_wrong_key_of_a_spec_is_explained(serving: Serving, fields: dict[str, Any], said: str) -> None:
    """An unknown key or an impossible value in a spec is refused with its path, what was expected or meant, and changes nothing."""
    before = serving.status("twice")["generation"]
    refused = serving.request("PUT", "/deployments/twice", {"model": "twice@1", **fields}, control=True)
    assert refused.status == (404 if "also" in fields else 400), refused.body
    assert said in refused.error
    assert serving.status("twice")["generation"] == before
    assert serving.ask("twice", {"x": 2}).json == {"output": 4}


def test_a_file_that_is_not_there_starts_nothing(home: ServingHome, tmp_path: Path) -> None:
    """serve and push of a missing file say so at once."""
    for word in ("push", "serve"):
        refused = home.run(word, str(tmp_path / "nowhere.onnx"))
        assert refused.returncode == errors.NotFound.exit
        assert "nowhere.onnx" in refused.stderr
