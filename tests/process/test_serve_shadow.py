"""Shadows of a real server: what they find, what a client sees of them (nothing), and what a candidate that hangs costs it (nothing)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from serving_home import Answer, Serving, ServingHome, connect, exchange

OLD = """
class Price:
    idempotent = True

    def predict(self, area: float) -> float:
        return 100.0 * area
"""
OTHER = OLD.replace("100.0 * area", "(120.0 if area % 10 < 3 else 100.0) * area")
HANGING = OLD.replace("return", "import time; time.sleep(0 if area == 0 else 3600)\n        return")
SHADOW = ("--strategy", "shadow", "--mirror", "100", "--min-events", "400")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServingHome]:
    """A home with three versions of a model; one differs in 3 of 10 rows, one never answers but when it is tried."""
    made = ServingHome(tmp_path / "h")
    for text in (OLD, OTHER, HANGING):
        made.write("price.json", json.dumps({"area": 0.0}))
        made.done("push", f"{made.write('price.py', text)}:Price", "--example", str(made.folder / "price.json"))
    yield made
    made.close()


@pytest.fixture
def serving(home: ServingHome) -> Serving:
    """A server on which price@1 serves."""
    started = home.serve().until_settled()
    home.done("deploy", "price@1")
    return started.until_ready("price")


def asked(serving: Serving, areas: Sequence[float]) -> list[Answer]:
    """One client that asks for these, one after the other."""
    connection = connect(serving.url)
    try:
        return [exchange(connection, "POST", "/predict/price", {"area": area}) for area in areas]
    finally:
        connection.close()


def shown(home: ServingHome) -> dict[str, Any]:
    """The newest rollout."""
    found: dict[str, Any] = json.loads(home.done("rollout", "status", "price", "--output", "json"))
    return found


def metric(serving: Serving, name: str, **labels: str) -> int:
    """A counter, summed over its series with these labels."""
    lines = [line for line in serving.get("/metrics").body.decode().splitlines() if line.startswith(f"{name}{{")]
    kept = [line for line in lines if all(f'{key}="{value}"' in line for key, value in labels.items())]
    return sum(int(line.rpartition(" ")[2]) for line in kept)


def test_what_a_shadow_finds(home: ServingHome, serving: Serving) -> None:
    """3 of 10 answers differ, and that is what is said, with the worst of them; the client has the old ones only; then it is over."""
    said = home.done("deploy", "price@2", *SHADOW, "--for", "1h")
    assert re.match(r"price: shadow of price@2 \(price-2\) mirroring 100 %", said), said
    answers = asked(serving, range(1, 501))
    assert all(answer.status == 200 for answer in answers)
    assert [answer.json["output"] for answer in answers] == [100.0 * area for area in range(1, 501)]
    assert {answer.headers["x-headgate-revision"] for answer in answers} == {"price-1"}
    serving.until(lambda: (seen := shown(home)["evidence"]["shadow"])["pairs"] + seen["dropped"] == 500, "all copies are back")
    counted = metric(serving, "headgate_mirrored_total", result="differed")
    assert metric(serving, "headgate_requests_total", revision="price-2") == 0
    home.done("deploy", "price@2", "--for", "1s")
    serving.until(lambda: shown(home)["state"] == "complete", "the shadow is over")
    found = shown(home)
    shadow = found["evidence"]["shadow"]
    assert shadow["pairs"] + shadow["dropped"] == 500 and shadow["compared"] >= 400
    share, (lower, upper) = shadow["differed"] / shadow["compared"], shadow["difference"]
    assert 0.25 < share < 0.35 and lower < 0.3 < upper
    [output] = shadow["outputs"]
    assert output["differing"] == pytest.approx(share) and shadow["bad"] == [0, 0]
    worst = shadow["examples"][0]
    assert worst["candidate"] == pytest.approx(1.2 * worst["live"]) and worst["inputs"]["area"] % 10 < 3
    assert counted == shadow["differed"]
    # What has been tried is gone, nothing is wrong, and it does not begin again.
    status = serving.until(lambda: (found := serving.status("price"))["revisions"][-1]["state"] == "tried" and found, "it is gone")
    assert (status["state"], status["serving"], status["rollout"]) == ("ready", "price-1", None)
    history = json.loads(home.done("rollout", "history", "price", "--output", "json"))
    assert [line["what"] for line in history] == ["switched", "begun", "step", "changed", "complete"]
    assert "answers differ" in history[-1]["why"] and "examples" not in history[-1]["evidence"]["shadow"]


def test_a_bound_takes_it_back(home: ServingHome, serving: Serving) -> None:
    """More differences than may be: rolled back by itself, and whoever watches gets the reason."""
    home.done("deploy", "price@2", *SHADOW, "--max-disagreement", "5", "--for", "10m")
    asked(serving, range(1, 301))
    serving.until(lambda: shown(home)["state"] == "rolled_back", "it is taken back")
    assert "Harm: " in shown(home)["reason"] and shown(home)["verdict"] == "harm"
    assert home.run("rollout", "watch", "price").returncode == 6


def test_a_candidate_that_hangs_costs_the_client_nothing(home: ServingHome, serving: Serving) -> None:
    """Its copies are dropped and counted; every live request is answered, as soon as without it."""
    before = sorted(answer.seconds for answer in asked(serving, range(1, 201)))
    home.done("deploy", "price@3", *SHADOW, "--for", "10m")
    answers = asked(serving, range(1, 401))
    assert [answer.json["output"] for answer in answers] == [100.0 * area for area in range(1, 401)]
    during = sorted(answer.seconds for answer in answers)
    assert during[len(during) // 2] < 3 * before[len(before) // 2] + 0.005
    assert metric(serving, "headgate_mirror_dropped_total") >= 400 - 257 - 1
    assert metric(serving, "headgate_mirrored_total") == 0
    # The end waits for no copy either.
    assert serving.stop() == 0
