"""What people are shown of a rollout, from what the control API says of it; and the commands that show and steer one."""

from __future__ import annotations

import copy
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate import errors
from headgate.cli import rollout_view as view, waiting, watching
from headgate.cli.commands import rollback, rollout as command, status as status_command
from headgate.cli.main import main
from headgate.cli.output import span
from headgate.control.rollout import STATE_AT, TRANSITIONS, StepKind, steps_of
from headgate.spec import RolloutSpec

STEPS = [{"kind": kind} for kind in ("start", "validate", "scale")] + [
    {"kind": "set_weight", "weight": 500},
    {"kind": "analyse", "seconds": 60.0, "events": 50},
    {"kind": "set_weight", "weight": 2500},
    {"kind": "analyse", "seconds": 60.0, "events": 50},
    {"kind": "promote"},
    {"kind": "bake", "seconds": 60.0},
    {"kind": "retire", "seconds": 3600.0},
]


def arm(revision: int, share: int, **fields: Any) -> dict[str, Any]:
    """One arm of a rollout."""
    return {
        "revision": f"price-{revision}", "model": f"price@{revision}", "state": "ready", "share": share, "share_in_force": share,
        "ready": 1, "requests": 100 * revision, "failures": revision, "queued_rows": 0, **fields,
    }  # fmt: skip


def rollout(state: str = "running", step: int = 4, share: int = 500, **fields: Any) -> dict[str, Any]:
    """A canary of price@2, as the control API says it."""
    return {
        "deployment": "price", "number": 1, "strategy": "canary", "state": state, "reason": "", "candidate": arm(2, share),
        "baseline": arm(1, 10_000 - share), "steps": STEPS, "step": step, "begun": 1.7e9, "in_step": 12.0, "left": 48.0,
        "requests": 16, "verdict": "undecided", "verdict_reason": "", "evidence": {}, "on_undecided": "hold", **fields,
    }  # fmt: skip


def test_all_of_it_is_one_view() -> None:
    """Steps with the present one marked, what is waited for, the verdict, and both arms with asked and observed shares and counts."""
    shown = rollout(candidate=arm(2, 500, share_in_force=100))
    assert [" ".join(line.split()) for line in view.text(shown).splitlines()] == [
        "price: canary of price@2 against price@1, rollout 1",
        "state running",
        "steps prepare > [5 %] > 25 % > 100 % > bake > keep warm",
        "left 48 s and 34 of 50 requests",
        "verdict undecided; on undecided: hold",
        "ARM MODEL REVISION STATE SHARE IN FORCE READY REQUESTS FAILED QUEUED",
        "candidate price@2 price-2 ready 5 % 1 % 1 200 2 0",
        "baseline price@1 price-1 ready 95 % 95 % 1 100 1 0",
    ]


def test_a_shadow_mirrors() -> None:
    """It has no share to tell of, but how many requests it gets copies of; a pause does not stop that."""
    steps = [*STEPS[:3], {"kind": "mirror", "weight": 2000, "seconds": 60.0, "events": 50}]
    shown = rollout("running", 3, 0, steps=steps, strategy="shadow")
    assert "  steps    prepare > [mirror 20 %]\n" in view.text(shown)
    assert view.said_of(shown) == "shadow of price@2 (price-2) mirroring 20 %, 48 s and 34 of 50 requests left"
    assert view.said_of(shown | {"state": "paused"}).startswith("shadow of price@2 (price-2) paused, mirroring 20 %")
    assert view.said_of(shown | {"state": "complete"}) == "shadow of price@2 (price-2) complete"
    status = {"revisions": [{"name": "price-2", "version": 2, "share": 0}], "model": "price@2"}
    assert waiting._has_share(status, status["revisions"][0], shown), "a deploy is done once copies are made"  # type: ignore[index]


def test_the_reason_of_a_state_and_of_a_verdict_are_said() -> None:
    """Why it stands where it stands, and why the judge says what it says."""
    shown = view.text(rollout("paused", reason="paused by ann: lunch", verdict_reason="5 of 5,000 requests.", left=None))
    assert "  state    paused: paused by ann: lunch\n" in shown
    assert "  verdict  undecided: 5 of 5,000 requests; on undecided: hold\n" in shown


def test_an_ended_rollout_waits_for_nothing() -> None:
    """What has ended has no time left; a complete one stands at no step, one that was taken back where it was."""
    done = view.text(rollout("complete", 9, 10_000, left=None))
    assert "left" not in done and "[" not in done
    back = view.text(rollout("rolled_back", 4, 0, reason="errors: 12 times as many", left=None))
    assert "  state    rolled back: errors: 12 times as many\n" in back and "[5 %]" in back and "left" not in back


def test_the_evidence_is_held_against_what_it_needs() -> None:
    """Every metric of a judgement: bad events of both arms, the ratio's bounds, evidence of harm and, where needed, of safety."""
    metric = {
        "name": "errors", "requests": [200, 4000], "bad": [5, 10], "log_e": 2.4, "log_needed": 7.6, "ratio": [1.2, None],
        "log_e_safe": -0.7, "log_needed_safe": 3.0, "must_prove": True,
    }  # fmt: skip
    silent = metric | {"name": "invalid", "requests": [0, 0]}
    endless = metric | {"name": "slow", "requests": [0, 90], "must_prove": False, "log_needed": 40.0, "log_e": None}
    shown = view.text(rollout(evidence={"metrics": [metric, silent, endless | {"ratio": [0.0, 3.1]}]})).splitlines()[-3:]
    assert [" ".join(line.split()) for line in shown] == [
        "METRIC CANDIDATE BASELINE RATIO HARM SAFE",
        "errors 5 of 200 (2.5 %) 10 of 4000 (0.25 %) 1.2 to any 11 of 1998 0.5 of 20",
        "slow - 10 of 90 (11 %) 0 to 3.1 infinity of 10^17 -",
    ]


def test_what_is_kept_warm_can_be_gone_back_to() -> None:
    """Once nothing is judged any more, the line says for how long the old version is there, and how to go back."""
    kept = rollout("baking", 9, 10_000, left=3000.0)
    assert view.is_over(kept) and not view.is_over(rollout("baking", 8, 10_000))
    assert view.short(kept) == (
        "price@2 has all of the traffic; price@1 is kept warm for 50 min: 'headgate rollback price' goes back to it"
    )
    assert view.said_of(kept) == "canary of price@2 (price-2) has all of the traffic, price@1 is kept warm for 50 min"


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (rollout(), "canary of price@2 (price-2) at 5 %, 48 s and 34 of 50 requests left"),
        (rollout("preparing", 1, 0, left=None, requests=0), "canary of price@2 (price-2) preparing"),
        (rollout("paused"), "canary of price@2 (price-2) paused at 5 %"),
        (rollout("environment"), "canary of price@2 (price-2) environment at 5 %"),
        (rollout("rolling_back", share=0), "canary of price@2 (price-2) rolling back"),
        (rollout("promoting", 7, 10_000, left=None), "canary of price@2 (price-2) promoting at 100 %"),
    ],
)
def test_a_clause_says_how_it_stands(shown: dict[str, Any], said: str) -> None:
    """State, share, and what it waits for."""
    assert view.said_of(shown) == said


@given(st.sampled_from(["canary", "blue-green"]), st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True), st.data())
def test_every_step_can_be_shown(strategy: str, shares: list[int], data: st.DataObject) -> None:
    """Whatever the steps of the engine are, the present one is marked, once."""
    spec = RolloutSpec(strategy=strategy, steps=tuple(map(float, sorted(shares))))
    steps = [{"kind": step.kind.value, "weight": step.weight} for step in steps_of(spec)]
    index = data.draw(st.integers(0, len(steps) - 1))
    text = view.stations(steps, index)
    assert text.count("[") == text.count("]") == 1
    assert text.replace("[", "").replace("]", "") == view.stations(steps, None)


@pytest.mark.parametrize("state", sorted(TRANSITIONS))
def test_every_state_can_be_shown(state: str) -> None:
    """No state of the engine is unknown to the view; what has ended is over."""
    step = next((index for index, step in enumerate(STEPS) if STATE_AT[StepKind(step["kind"])].value == state), 4)
    shown = rollout(state, step)
    assert state.replace("_", " ") in view.text(shown) and view.line(shown) and view.short(shown)
    assert TRANSITIONS[state] or view.is_over(shown)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (0.2, "1 s"), (80, "1 min 20 s"), (3600, "1 h"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")]
)
def test_a_wait_is_said_in_two_units(seconds: float, said: str) -> None:
    """Nobody waits to the second for a day."""
    assert span(seconds) == said


def deployment(**fields: Any) -> dict[str, Any]:
    """The status of deployment ``price``, whose second version takes over."""
    revisions = [
        {"name": f"price-{number}", "version": number, "state": state, "share": share, "replicas": [{"state": "ready"}],
         "requests": 10 * number, "failures": 0, "queued_rows": 0}
        for number, state, share in ((1, "serving", 9500), (2, "ready", 500))
    ]  # fmt: skip
    return {
        "name": "price", "model": "price@2", "state": "ready", "reason": "", "revision": "price-2", "version": 2, "serving": "price-1",
        "also": [], "url": "http://u", "revisions": revisions, "rollout": rollout(), **fields,
    }  # fmt: skip


def test_status_shows_both_versions_with_their_shares() -> None:
    """During a rollout a deployment has a line for each version, and one that says where the rollout is."""
    lines = [line.split() for line in status_command.text({"deployments": [deployment()]}).splitlines()]
    assert lines[1] == ["price", "(95", "%)", "price@1", "ready", "1/1", "10", "0", "0", "http://u"]
    assert lines[2] == ["price", "(5", "%)", "price@2", "ready", "1/1", "20", "0", "0", "http://u/versions/2"]
    assert " ".join(lines[3]) == f"price: {view.short(rollout())}"


def test_deploy_says_what_it_has_come_to() -> None:
    """A canary with its share and how to follow it; what has taken over is ready, and says what is kept warm."""
    assert view.deployed(deployment()) == (
        "price: canary of price@2 (price-2) at 5 %, 48 s and 34 of 50 requests left; 'headgate rollout watch price' follows it"
    )
    kept = rollout("baking", 9, 10_000, strategy="blue-green")
    switched = view.deployed(deployment(serving="price-2", rollout=kept)).splitlines()
    assert switched == ["price ready: price@2 as price-2, http://u", f"price: {view.short(kept)}"]
    assert view.deployed(deployment(serving="price-2", rollout=None)) == "price ready: price@2 as price-2, http://u"


# ---- waiting


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting takes no time."""
    monkeypatch.setattr(waiting.time, "sleep", lambda _: None)


def seen(state: str, share: int | None = None, reason: str = "") -> dict[str, Any]:
    """The deployment while its rollout is in ``state``, with the candidate's share in force."""
    return deployment(rollout=rollout(state, candidate=arm(2, 500, share_in_force=share), reason=reason))


@pytest.mark.usefixtures("polls")
def test_a_deploy_returns_with_the_first_share() -> None:
    """Not while the candidate gets no request, nor while nothing is known of that; then at once, held or not."""
    control = Control(**{"": [seen("preparing", 0), seen("running"), seen("running", 0), seen("running", 500)]})
    assert waiting.until_ready(control, "price", "price-2", 60.0) == seen("running", 500)
    assert len(control.sent) == 4
    assert waiting.until_ready(Control(**{"": [seen("inconclusive", 500)]}), "price", None, 60.0) == seen("inconclusive", 500)


@pytest.mark.usefixtures("polls")
@pytest.mark.parametrize(
    ("state", "share", "said"),
    [
        ("paused", 0, "price@2 (price-2) is paused: wait for ann; price@1 (price-1)"),
        ("environment", None, "price@2 (price-2) is environment: wait for ann; price@1 (price-1)"),
        ("rolling_back", 500, "price@2 (price-2) is rolling back: wait for ann; price@1 (price-1)"),
    ],
)
def test_a_deploy_that_does_not_get_there_says_why(state: str, share: int | None, said: str) -> None:
    """A candidate that goes back, or waits for somebody before its first share, ends the command with 6, and it says who serves."""
    with pytest.raises(errors.Conflict) as raised:
        waiting.until_ready(Control(**{"": [seen(state, share, "wait for ann")]}), "price", "price-2", 60.0)
    assert str(raised.value).startswith(said)


@pytest.mark.usefixtures("polls")
def test_the_rollout_of_another_revision_is_not_waited_for() -> None:
    """What was asked for serves; that something else takes over from it is not this command's."""
    other = deployment(rollout=rollout("preparing", candidate=arm(3, 0)))
    other["revisions"][0]["name"], other["revisions"][1]["name"] = "price-2", "price-3"
    assert waiting.until_ready(Control(**{"": [other]}), "price", "price-2", 60.0) == other


# ---- watching


class Control:
    """A control API in memory: answers each path with what it was given, in order, the last for ever."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = {path.replace("__", "/"): said for path, said in answers.items()}
        self.sent: list[tuple[str, str, Any]] = []

    def get(self, path: str) -> Any:
        """GET."""
        said = self.answers[path.removeprefix("/deployments/price").strip("/").partition("?")[0]]
        self.sent.append(("GET", path, None))
        answer = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(answer, errors.HeadgateError):
            raise answer
        return copy.deepcopy(answer)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send."""
        self.sent.append((method, path, body))
        return 200, self.answers[path.removeprefix("/deployments/price").strip("/")][0]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=waited.append))
    return waited


WALK = [rollout(), rollout(in_step=13.0), rollout("baking", 8, 10_000), rollout("baking", 9, 10_000)]


def test_watching_ends_with_the_rollout(pauses: list[float]) -> None:
    """Once a second, until nothing is decided any more; without a terminal a line for each change, and none for none."""
    stream = io.StringIO()
    watching.watch(Control(rollout=list(WALK)), "price", watching.shown("text", stream))
    assert stream.getvalue().splitlines() == [view.line(WALK[index]) for index in (0, 2, 3)]
    assert pauses == [1.0] * 3


def test_programs_get_a_line_of_json_for_every_change(pauses: list[float]) -> None:
    """Each line is what the control API says."""
    stream = io.StringIO()
    watching.watch(Control(rollout=list(WALK)), "price", watching.shown("json", stream))
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [WALK[index] for index in (0, 2, 3)]


def test_a_terminal_is_drawn_anew(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    """Each view is drawn over the last one, and no line of it wraps, which would put the next one at a wrong place."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(watching.shutil, "get_terminal_size", lambda: (60, 24))
    watching.watch(Control(rollout=list(WALK)), "price", watching.shown("text", stream))
    first, *others = stream.getvalue().split("\x1b[J")[1:]
    assert len(others) == 3 and all(len(line) < 60 for line in stream.getvalue().replace("\x1b[J", "").splitlines())
    assert first.endswith(f"\x1b[{first.count(chr(10))}F")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            [rollout("rolling_back", share=0), rollout("rolled_back", share=0, reason="2 % errors")],
            "rolled back: 2 % errors; price@1 serves",
        ),
        (
            [rollout(), rollout("superseded", share=0, reason="something else was deployed")],
            "superseded: something else was deployed",
        ),
        ([rollout(), rollout(number=2)], "rollout 1 of price was superseded"),
    ],
)
def test_a_bad_end_is_a_conflict(seen: list[Any], said: str, pauses: list[float]) -> None:
    """Where the candidate does not get there, the command ends with 6 and the reason."""
    with pytest.raises(errors.Conflict) as raised:
        watching.watch(Control(rollout=seen), "price", watching.shown("text", io.StringIO()))
    assert said in str(raised.value) and raised.value.exit == 6


def test_a_control_that_starts_again_is_waited_for(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killing control ends neither a rollout nor the watching of it."""
    monkeypatch.setattr("headgate.cli.waiting.time.sleep", pauses.append)
    broken = errors.ServerUnreachable("it broke")
    shown = watching.watch(Control(rollout=[WALK[0], broken, broken, WALK[3]]), "price", watching.shown("text", io.StringIO()))
    assert shown == WALK[3]


# ---- commands


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Control:
    """The control API that the commands find."""
    lines = [
        {"at": 1.7e9, "rollout": 1, "who": "ann", "what": "rolled_back", "why": "2 % errors", "evidence": {"verdict": "harm"}},
    ]
    back = {"model": "price@1", "at_once": True, "said": "price@1 was kept warm, and has the traffic again"}
    made = Control(rollout=[rollout()], history=[lines], rollout__pause=[rollout("paused")], rollback=[back])
    for module in (command, rollback):
        monkeypatch.setattr(module, "connect", lambda _: made)
    return made


def test_an_order_takes_a_reason(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """What is ordered, and why, goes to the server; its answer is how the rollout stands then."""
    assert main(["rollout", "pause", "price", "--why", "lunch"]) == 0
    assert control.sent == [("POST", "/deployments/price/rollout/pause", {"why": "lunch"})]
    assert capsys.readouterr().out == "price: canary of price@2 (price-2) paused at 5 %\n"


def test_the_history_is_a_table_and_its_json_has_the_evidence(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Who did what, when and why; the numbers behind a verdict are for programs."""
    assert main(["rollout", "history", "price", "--tail", "5"]) == 0
    assert control.sent[0][1] == "/deployments/price/history?tail=5"
    assert "ann  rolled back  2 % errors" in capsys.readouterr().out
    assert main(["rollout", "history", "price", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["evidence"] == {"verdict": "harm"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rollout", "status", "price", "--why", "lunch"], "--why: goes with an order"),
        (["rollout", "pause", "price", "--tail", "3"], "--tail: goes with 'history'"),
        (["rollout", "stop", "price"], "invalid choice: 'stop'"),
        (["deploy", "price@2", "--no-wait", "--follow"], "--follow: not allowed with argument --no-wait"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str, control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that would be ignored is refused, before anything is asked."""
    assert main(words) == 2
    assert said in capsys.readouterr().err and not control.sent


def test_a_rollback_waits_until_the_gateway_has_done_it(
    control: Control, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It returns when the candidate gets no request any more, which the gateway says itself; unknown is not yet."""
    monkeypatch.setattr("headgate.cli.waiting.time.sleep", lambda _: None)
    shares = [arm(2, 0, share_in_force=share) for share in (10_000, None, 0)]
    control.answers["rollout"] = [rollout("rolled_back", candidate=share) for share in shares]
    assert main(["rollback", "price", "--why", "wrong"]) == 0
    assert control.sent[0] == ("POST", "/deployments/price/rollback", {"why": "wrong"}) and len(control.sent) == 4
    assert capsys.readouterr().out == "price: price@1 was kept warm, and has the traffic again\n"
