"""The orderly end of a server under load: nobody's request is lost, and nothing is left running."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from faulty_home import FaultyHome, echo
from serving_home import Serving, eventually, failures, is_alive, under_load


def _end(home: FaultyHome, serving: Serving, how: str) -> Callable[[], object]:
    """Begin the end of a server and return what to call once it should be over."""
    if how == "stop":
        return home.start(home.done, "stop", "--server").result
    serving.process.send_signal(getattr(signal, how))
    return lambda: None


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stop"])
def test_a_drain_loses_nothing(home: FaultyHome, how: str) -> None:
    """Readiness turns at once while requests are still answered; then keep-alive connections are told to close, long requests
    finish, everything ends, the exit code is 0, and no client saw a failure."""
    serving = home.serve(home.model("model"), home.model("long"), "--threads", "1", "--drain-delay", "2").until_ready(
        "model", "long"
    )
    pids = serving.pids()
    inflight = home.begin(serving, "long", {"do": "wait", "x": 1})
    waiting = home.queue(serving, "long", [echo(2), echo(3)])
    with under_load(serving.url, "model", home.folder, connections=8) as load:
        over = _end(home, serving, how)
        eventually(lambda: serving.get("/v2/health/ready").status == 503, "readiness turns")
        assert serving.ask("model", echo(1)).status == 200
        assert serving.get("/v2/health/live").status == 200
        eventually(lambda: load.process.poll() is not None or _refused(serving), "new connections are refused", 20)
        home.go("long")
        records = load.end()
    assert inflight.result(60).status == 200
    assert [answer.result(60).status for answer in waiting] == [200, 200]
    assert serving.process.wait(60) == 0
    over()
    lost = failures(records)
    assert [record for record in lost if not _met_the_closing(record)] == []
    assert len(lost) <= 1, "one client of eight may meet the closing; more is no accident"
    assert [name for name, pid in pids.items() if is_alive(pid)] == []
    assert not serving.home.server.exists()


def _met_the_closing(record: Mapping[str, Any]) -> bool:
    """Whether a client sent on an idle connection in the instant it was closed: HTTP/1.1 has no way to exclude that (RFC 9112, 9.5)."""
    return record["status"] == 0 and ("RemoteDisconnected" in record["why"] or "ConnectionReset" in record["why"])


def _refused(serving: Serving) -> bool:
    try:
        serving.get("/v2/health/live", timeout=5)
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # it came between the last look and the closing of the port; the next one is refused
    except OSError as error:
        raise AssertionError(f"a new connection was neither served nor refused: {error!r}") from error
    return False


def test_a_second_signal_ends_at_once(home: FaultyHome) -> None:
    """A drain that takes too long for the user is cut short by another signal, which the exit code tells; nothing is left running."""
    serving = home.serve(home.model("model"), "--threads", "1").until_ready("model")
    pids = serving.pids()
    inflight = home.begin(serving, "model", {"do": "wait", "x": 1})
    serving.process.send_signal(signal.SIGTERM)
    serving.until(lambda: "draining" in serving.said, "it drains")
    time.sleep(0.5)  # sooner, it would be taken for an echo of the first
    assert serving.process.poll() is None
    assert serving.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert [name for name, pid in pids.items() if is_alive(pid)] == []
    assert isinstance(inflight.exception(60), OSError)
