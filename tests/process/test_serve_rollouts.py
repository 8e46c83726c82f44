"""Rollouts of a real server, by the command line: shares that requests really get, the way back, the history, and what is declared."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_home import COMMAND, Serving, ServingHome, connect, eventually, exchange

from headgate import errors

MODEL = """
class Price:
    idempotent = True

    def predict(self, area: float) -> float:
        return VERSION
"""
CANARY = ("--strategy", "canary", "--min-events", "0", "--on-undecided", "promote")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a home with three versions of a model, each of which answers with its number."""
    made = ServingHome(tmp_path_factory.mktemp("registered") / "h")
    for version in (1, 2, 3):
        made.done("push", f"{made.write('price.py', MODEL.replace('VERSION', str(float(version))))}:Price")
    return made.home.path


@pytest.fixture
def home(tmp_path: Path, registered: Path) -> Iterator[ServingHome]:
    """A home of its own with these versions."""
    made = ServingHome(tmp_path / "h")
    shutil.copytree(registered, made.home.path)
    yield made
    made.close()


@pytest.fixture
def serving(home: ServingHome) -> Serving:
    """A server on which price@1 serves."""
    started = home.serve().until_settled()
    home.done("deploy", "price@1")
    started.until_ready("price")
    return started


class Answers:
    """A client that asks all the time on one connection, and keeps when which version answered."""

    def __init__(self, serving: Serving) -> None:
        self.seen: list[tuple[float, float]] = []
        self.wrong: list[str] = []
        self._url, self._over = serving.url, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        connection = connect(self._url)
        while not self._over.is_set():
            answer = exchange(connection, "POST", "/predict/price", {"area": 1})
            if answer.status == 200:
                self.seen.append((time.monotonic(), answer.json["output"]))
            else:
                self.wrong.append(answer.body.decode())
        connection.close()

    def __enter__(self) -> Answers:
        eventually(lambda: self.seen, "the first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        assert not self.wrong, self.wrong[:3]

    def since(self, moment: float) -> Counter[float]:
        """How often each version has answered since then."""
        return Counter(version for at, version in list(self.seen) if at >= moment)

    def until(self, version: float, share: tuple[float, float], count: int = 600) -> None:
        """Ask ``count`` times, and hold the share of ``version`` against the limits."""
        begun = time.monotonic()
        eventually(lambda: sum(self.since(begun).values()) >= count, f"{count} answers")
        seen = self.since(begun)
        assert share[0] <= seen[version] / sum(seen.values()) <= share[1], seen


def shown(home: ServingHome) -> dict[str, Any]:
    """The newest rollout."""
    found: dict[str, Any] = json.loads(home.done("rollout", "status", "price", "--output", "json"))
    return found


def told(home: ServingHome) -> list[dict[str, Any]]:
    """The history."""
    lines: list[dict[str, Any]] = json.loads(home.done("rollout", "history", "price", "--output", "json"))
    return lines


def test_a_canary_gets_the_shares_it_is_given(home: ServingHome, serving: Serving) -> None:
    """deploy returns with the first share; as many requests as that go there; every step is in the history; all of it in the end."""
    with Answers(serving) as answers:
        said = home.done("deploy", "price@2", *CANARY, "--steps", "20,60", "--bake", "1h", "--rollback-window", "1h")
        assert re.fullmatch(
            r"price: canary of price@2 \(price-2\) at 20 %, .* left; 'headgate rollout watch price' follows it\n", said
        )
        arms = {arm: shown(home)[arm]["share_in_force"] for arm in ("candidate", "baseline")}
        assert arms == {"candidate": 2000, "baseline": 8000}
        answers.until(2.0, (0.12, 0.28))
        assert "price (20 %)  price@2" in home.done("status")
        # Shorter from here on, without a new revision: the rollout goes on at its share.
        home.done("deploy", "price@2", "--bake", "1s")
        serving.until(lambda: shown(home)["candidate"]["share"] == 6000, "it is at 60 %")
        home.done("deploy", "price@2", "--bake", "1h")
        answers.until(2.0, (0.5, 0.7))
        home.done("deploy", "price@2", "--bake", "0s")
        serving.until(lambda: shown(home)["candidate"]["share_in_force"] == 10_000, "it has everything")
        answers.until(2.0, (1.0, 1.0))
    assert shown(home)["state"] == "baking"
    assert [line["what"] for line in told(home)] == [
        "switched", "begun", "step", "changed", "step", "changed", "changed", "promoted"
    ]  # fmt: skip
    assert [line["who"] for line in told(home)] == ["headgate"] * 8


def test_a_rollout_is_followed_to_its_end(home: ServingHome, serving: Serving) -> None:
    """watch, and deploy --follow, end with 0 when the candidate has everything; a line for every change goes where no terminal is."""
    said = home.run("deploy", "price@2", *CANARY, "--steps", "50", "--bake", "1s", "--rollback-window", "1h", "--follow")
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert "at 50 %" in lines[0] and "price@1 is kept warm" in lines[-1], lines
    assert lines[-2].startswith("price ready: price@2 as price-2")
    watched = [json.loads(line) for line in home.done("rollout", "watch", "price", "--output", "json").splitlines()]
    assert [(line["state"], line["candidate"]["share"]) for line in watched] == [("baking", 10_000)]


def test_going_back_while_the_old_one_is_warm_takes_less_than_a_second(home: ServingHome, serving: Serving) -> None:
    """Blue-green switches at once and keeps the old one; a rollback is seen by a client within a second, and no request fails."""
    with Answers(serving) as answers:
        said = home.done("deploy", "price@2", "--strategy", "blue-green", "--bake", "1h")
        assert said.startswith("price ready: price@2 as price-2")
        assert re.search(r"blue-green of price@2 \(price-2\) (promoting|baking) at 100 %", said)
        answers.until(2.0, (1.0, 1.0), 200)
        begun = time.monotonic()
        back = serving.request("POST", "/deployments/price/rollback", {"why": "wrong prices"}, control=True)
        assert back.status == 202 and back.json["at_once"] and back.json["model"] == "price@1"
        serving.until(lambda: answers.since(begun)[1.0], "the old version answers")
        first = next(at for at, version in list(answers.seen) if at >= begun and version == 1.0)
        assert first - begun < 1.0
        answers.until(1.0, (1.0, 1.0), 200)
        assert told(home)[-1]["what"] == "rolled_back" and told(home)[-1]["why"] == "wrong prices"
    assert home.done("status", "price").splitlines()[1].split()[1:3] == ["price@1", "ready"]


def test_going_back_later_is_a_deploy(home: ServingHome, serving: Serving) -> None:
    """What is not warm any more is loaded first; the command says so, waits for it, and no rollout holds it up."""
    home.done("deploy", "price@2", *CANARY, "--steps", "50", "--bake", "0s", "--rollback-window", "0s", "--follow")
    serving.until(lambda: serving.status("price")["rollout"] is None, "the old one is gone")
    ended = home.run("rollback", "price")
    assert (ended.returncode, ended.stdout) == (0, "price: price@1 serves again\n")
    assert "price@1 is not warm any more: it is loaded first" in ended.stderr
    serving.until(lambda: serving.ask("price", {"area": 1}).json["output"] == 1.0, "it answers")


def test_an_aborted_canary_leaves_everything_to_the_old_one(home: ServingHome, serving: Serving) -> None:
    """Orders with their reasons are in the history under who gave them; whoever watched gets 6 and the reason."""
    with Answers(serving) as answers:
        home.done("deploy", "price@2", *CANARY, "--steps", "50", "--bake", "1h")
        assert "paused at 50 %" in home.done("rollout", "pause", "price", "--why", "lunch")
        assert "at 50 %" in home.done("rollout", "resume", "price")
        watcher = subprocess.Popen(
            [*COMMAND, "rollout", "watch", "price"], env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert watcher.stdout is not None
        assert "at 50 %" in watcher.stdout.readline()
        home.done("rollout", "abort", "price", "--why", "not today")
        said, complaint = watcher.communicate(timeout=60)
        assert watcher.returncode == errors.Conflict.exit
        assert complaint == "headgate: price: canary of price@2 (price-2) rolled back: not today; price@1 serves\n", said
        serving.until(lambda: shown(home)["candidate"]["share_in_force"] == 0, "it has nothing")
        answers.until(1.0, (1.0, 1.0), 200)
    lines = [(line["what"], line["who"], line["why"]) for line in told(home)[-3:]]
    assert lines == [("paused", "local", "lunch"), ("resumed", "local", ""), ("rolled_back", "local", "not today")]
    again = home.run("rollout", "abort", "price")
    assert again.returncode == errors.Conflict.exit and "has no rollout under way" in again.stderr
    assert home.run("rollout", "watch", "price").returncode == errors.Conflict.exit


def test_watching_is_left_quietly(home: ServingHome, serving: Serving) -> None:
    """Ctrl-C ends the watching and not the rollout, and says nothing."""
    home.done("deploy", "price@2", *CANARY, "--steps", "50", "--bake", "1h")
    watcher = subprocess.Popen(
        [*COMMAND, "rollout", "watch", "price"], env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watcher.stdout is not None and watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    assert watcher.communicate(timeout=30)[1] == "" and watcher.returncode == 130
    assert shown(home)["state"] == "running"


def test_serving_a_model_again_rolls_it_out_as_the_deployment_does(home: ServingHome, serving: Serving) -> None:
    """A new version that `serve` brings to a home takes over as its deployment says, or as the flags do; the old one answers meanwhile."""
    home.done("deploy", "price@1", *CANARY, "--steps", "40", "--bake", "1h")
    assert serving.stop() == 0
    target = f"{home.write('price.py', MODEL.replace('VERSION', '4.0'))}:Price"
    again = home.serve(target, "--steps", "30").until_settled()
    assert "price is ready: price@1\n  canary of price@4" in again.said and "at 30 %" in again.said
    with Answers(again) as answers:
        answers.until(4.0, (0.21, 0.39))


DECLARED = """
name: price
model: price@2
scale: {min_replicas: 1, max_replicas: 1}
rollout:
  strategy: canary
  steps: [50]
  bake: 1s
  min_events: 0
  on_undecided: promote
---
name: cost
model: price@3
timeout: 5s
"""


def test_what_a_file_declares_is_deployed(home: ServingHome, serving: Serving) -> None:
    """A dry run says the difference; applied, a rollout begins as declared; then nothing would change."""
    home.done("deploy", "price@1", "--max-rows", "16", "--no-wait")
    file = str(home.write("deployments.yaml", DECLARED))
    assert home.done("apply", "-f", file, "--dry-run").splitlines() == [
        "price would change",
        "  model: price@1 -> price@2",
        "  batching.max_rows: 16 -> none",
        "  rollout.strategy: replace -> canary",
        "  rollout.steps: [1, 5, 25, 50, 100] -> [50]",
        "  rollout.bake: 2m -> 1s",
        "  rollout.min_events: 50 -> 0",
        "  rollout.on_undecided: hold -> promote",
        "cost would be new",
        "  model: price@3",
        "  timeout: 30s -> 5s",
    ]
    home.done("deploy", "price@1")  # the one with --max-rows serves
    said = home.done("apply", "-f", file).splitlines()
    assert "canary of price@2" in said[0] and said[1].startswith("cost ready: price@3 as cost-1")
    assert home.done("apply", "-f", file, "--dry-run") == "nothing would change\n"
    assert home.done("apply", "-f", file, "--follow").splitlines()[-1].startswith("cost ready: price@3 as cost-1")
    assert serving.ask("price", {"area": 1}).json == {"output": 2.0}
    # An ended deployment is as good as none: the same file brings it back.
    home.done("stop", "cost")
    assert "cost ready: price@3 as cost-2" in home.done("apply", "-f", file)


def test_a_declaration_does_not_overwrite_a_change_it_has_not_seen(home: ServingHome, serving: Serving) -> None:
    """A change that was made of an older generation is refused, and changes nothing."""
    generation = serving.status("price")["generation"]
    home.done("deploy", "price@1", "--timeout", "7s")
    body = json.dumps({"name": "price", "model": "price@2"}).encode()
    answer = serving.request("PUT", "/deployments/price", body, control=True, if_match=f'"{generation}"')
    assert answer.status == 409 and "Somebody else was faster" in answer.error
    assert serving.request("PUT", "/deployments/price", body, control=True, if_match='"0"').status == 409
    assert serving.status("price")["spec"]["timeout"] == 7.0
