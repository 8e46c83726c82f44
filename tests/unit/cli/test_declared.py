"""Deployments declared in a file: what is refused, with file, document and path, and what differs from what is deployed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headgate import errors
from headgate.cli import declared
from headgate.cli.commands import apply
from headgate.cli.main import main
from headgate.spec import parse_spec

FILE = """
name: price
model: price@2
rollout:
  strategy: canary
  steps: [5, 25]
  bake: 10m
---
name: other
model: price
timeout: 250ms
resources: {memory: 2GiB}
"""


class Control:
    """A control API with the model ``price`` in three versions, and one deployment of it."""

    def __init__(self, **deployed: dict[str, Any]) -> None:
        self.deployed = {name: declared.plain(parse_spec({"name": name, **fields})) for name, fields in deployed.items()}
        self.state = "ready"
        self.sent: list[tuple[str, str, Any, int | None]] = []

    def get(self, path: str) -> Any:
        """GET."""
        if path == "/models/price/versions":
            return [{"number": number, "aliases": ["champion"] if number == 2 else []} for number in (1, 2, 3)]
        name = path.removeprefix("/deployments/")
        if name not in self.deployed:
            raise errors.NotFound(f"{path}: not here")
        spec = self.deployed[name]
        return {"name": name, "model": spec["model"], "spec": spec, "generation": 4, "state": self.state}

    def call(self, method: str, path: str, body: Any = None, generation: int | None = None) -> tuple[int, Any]:
        """Send."""
        self.sent.append((method, path, body, generation))
        name = body["name"]
        status = {
            "name": name,
            "model": body["model"],
            "version": 2,
            "revision": f"{name}-1",
            "serving": f"{name}-1",
            "state": "ready",
        }
        return 202, {**status, "url": "http://u"}


def plans(control: Control, text: str = FILE) -> list[declared.Plan]:
    """What ``text`` comes to."""
    return [declared.plan(control, document) for document in declared.read(text.encode(), "d.yaml")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: price\nmodel: price\nrollot: {}",
            r"d.yaml, document 1: rollot: there is no such setting; did you mean 'rollout'\?",
        ),
        (f"{FILE}\nscale: {{min_replica: 2}}", r"d.yaml, document 2: scale.min_replica: .* did you mean 'min_replicas'\?"),
        ("name: a\nmodel: b\nrollout: {bake: 2 weeks}", r"document 1: rollout.bake: expected a duration .* got '2 weeks'"),
        ("name: a\nmodel: b\n---\nname: a\nmodel: b", r"document 2: name: 'a' is declared by d.yaml, document 1 already"),
        ("name: a", r"document 1: .*model"),
        ("name: a\nmodel: b\nname: c", r"d.yaml, line 3: no YAML: the key 'name' is there twice"),
        ("- name: a", r"document 1: expected settings \(name, model, ...\), got list"),
        ("{", r"d.yaml, line 1: no YAML"),
        ("", r"d.yaml: expected at least one deployment"),
        ("---\n---\n", r"d.yaml: expected at least one deployment"),
        ("1: 2", r"document 1: 1: there is no such setting"),
    ],
)
def test_mistakes_are_named_with_their_place(text: str, said: str) -> None:
    """File, document and path; nothing was deployed, as the message says."""
    with pytest.raises(errors.SpecError, match=said) as raised:
        declared.read(text.encode(), "d.yaml")
    assert "nothing was deployed" in str(raised.value)


def test_json_is_yaml() -> None:
    """A file of JSON is read, too."""
    [found] = declared.read(json.dumps({"name": "price", "model": "price@1", "also": [2]}).encode(), "d.json")
    assert found.spec.also == (2,)


def test_what_is_left_out_has_its_default() -> None:
    """The difference is to all that is in force: what the file does not name goes back to its default."""
    control = Control(price={"model": "price@1", "scale": {"min_replicas": 3, "max_replicas": 3}, "rollout": {"bake": 30}})
    first, second = plans(control)
    assert (first.generation, second.generation) == (4, 0)
    assert declared.text([first, second]).splitlines() == [
        "price would change",
        "  model: price@1 -> price@2",
        "  scale.min_replicas: 3 -> 1",
        "  scale.max_replicas: 3 -> 1",
        "  rollout.strategy: replace -> canary",
        "  rollout.steps: [1, 5, 25, 50, 100] -> [5, 25]",
        "  rollout.bake: 30s -> 10m",
        "other would be new",
        "  model: price@3",
        "  resources.memory: none -> 2GiB",
        "  timeout: 30s -> 250ms",
    ]


def test_what_is_so_already_would_not_change() -> None:
    """However it is written: durations, sizes and shares are compared as values."""
    control = Control(price={"model": "price@2", "rollout": {"strategy": "canary", "steps": [5, 25], "bake": 600}})
    first, second = plans(control)
    assert first.changes == () and declared.text([first]) == "nothing would change"
    assert declared.text([first, second]).startswith("price: nothing would change\nother would be new")


def test_a_deployment_that_is_ending_is_none() -> None:
    """What is declared begins anew, beside what drains."""
    control = Control(price={"model": "price@2"})
    control.state = "stopping"
    assert plans(control)[0].generation == 0


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("name: a\nmodel: nobody", errors.NotFound, "d.yaml, document 1: model: /models/nobody/versions: not here"),
        ("name: a\nmodel: price@7", errors.NotFound, r"document 1: model: there is no price@7\. There are: 1, 2, 3, champion"),
        ("name: a\nmodel: price\nalso: [9]", errors.NotFound, "document 1: also: there is no price@9"),
        ("name: price\nmodel: price@chmpion", errors.NotFound, r"there is no price@chmpion; did you mean 'champion'\?"),
    ],
)
def test_what_is_not_registered_is_said_before_anything_is_deployed(text: str, kind: type[Exception], said: str) -> None:
    """Models, versions and aliases are looked up for the difference, so a dry run finds what a deploy would."""
    with pytest.raises(kind, match=said):
        plans(Control(), text)


def test_a_deployment_keeps_its_model() -> None:
    """That a deployment cannot take another model is said by a dry run, too."""
    with pytest.raises(errors.Conflict, match=r"'cost', and a deployment has one model; .* 'headgate stop price'"):
        plans(Control(price={"model": "cost@1"}))


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Control:
    """The control API that the command finds."""
    made = Control(price={"model": "price@1"})
    monkeypatch.setattr(apply, "connect", lambda _: made)
    return made


def test_a_dry_run_changes_nothing(control: Control, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says the difference and ends with 0; as JSON with plain values."""
    (tmp_path / "d.yaml").write_text(FILE)
    assert main(["apply", "-f", str(tmp_path / "d.yaml"), "--dry-run", "--output", "json"]) == 0
    price, other = json.loads(capsys.readouterr().out)
    assert (price["name"], price["generation"], other["name"], other["generation"]) == ("price", 4, "other", 0)
    assert {"path": "rollout.bake", "old": 120.0, "new": 600.0} in price["changes"]
    assert not control.sent


def test_a_change_is_for_the_generation_it_was_made_of(
    control: Control, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every setting is sent, with the generation of what it was held against; standard input is a file, too."""
    monkeypatch.setattr(apply.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(FILE.encode())))
    assert main(["apply", "-f", "-", "--no-wait"]) == 0
    assert [(method, path, generation) for method, path, _, generation in control.sent] == [
        ("PUT", "/deployments/price", 4),
        ("PUT", "/deployments/other", 0),
    ]
    assert parse_spec(control.sent[1][2]).model == "price@3"
    assert capsys.readouterr().out.splitlines()[1] == "other ready: price@2 as other-1, http://u"


@pytest.mark.parametrize(("file", "code"), [("nofile.yaml", errors.NotFound.exit), (".", errors.InvalidRequest.exit)])
def test_a_file_that_cannot_be_read_is_said(file: str, code: int, control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anybody is asked."""
    assert main(["apply", "-f", file]) == code
    assert f"--file: {file}" in capsys.readouterr().err and not control.sent


def test_one_bad_document_holds_up_all(control: Control, tmp_path: Path) -> None:
    """A file is applied as a whole, or not at all."""
    (tmp_path / "d.yaml").write_text(f"{FILE}---\nname: third\nmodel: price@9\n")
    assert main(["apply", "-f", str(tmp_path / "d.yaml")]) == errors.NotFound.exit
    assert not control.sent
