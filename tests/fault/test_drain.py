"""The orderly end of a server under load: nobody's request is lost, and nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import pytest
from faulty_home import FaultyHome, echo
from serving_home import SECONDS, Serving, eventually, failures, is_alive, under_load


def _end(home: FaultyHome, serving: Serving, how: str) -> Callable[[], object]:
    """Begin the end of a server and return what to call once it should be over."""
    if how == "stop":
        return home.start(home.done, "stop", "--server").result
    serving.process.send_signal(getattr(signal, how))
    return lambda: None


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stop"])
def test_a_drain_loses_nothing(home: FaultyHome, how: str) -> None:
    """Readiness turns at once while requests are still answered; then keep-alive connections are told to close, long requests
    finish, everything ends, the exit code is 0, and no client saw a failure.

    None at all: every client asks often enough to be told ``connection: close`` during the delay, and whoever connects anew is either
    served or refused. Only a connection that idles through all of it could be ended while a request is on its way (RFC 9112, 9.5).
    """
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
    assert failures(records) == []
    assert [name for name, pid in pids.items() if is_alive(pid)] == []
    assert not serving.home.server.exists()


@pytest.mark.parametrize("slow", ["supervisor", "gateway-0"])
def test_a_drain_loses_nothing_where_a_process_is_slow(home: FaultyHome, slow: str) -> None:
    """On a loaded machine the supervisor may be late to shut the port, or the gateway to accept: each waits for the other, so that
    clients who were let in meanwhile are served."""
    serving = home.serve(home.model("model"), "--threads", "1", "--drain-delay", "1").until_ready("model")
    pid = serving.pids()[slow]
    with under_load(serving.url, "model", home.folder, connections=8) as load:
        serving.process.send_signal(signal.SIGTERM)
        eventually(lambda: serving.get("/v2/health/ready").status == 503, "readiness turns")
        time.sleep(0.7)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.9)  # in the middle of it the delay ends
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: _refused(serving), "new connections are refused", 20)
        records = load.end()
    assert serving.process.wait(60) == 0
    assert failures(records) == []


def test_a_request_that_crosses_the_end_of_its_connection_is_not_reset(home: FaultyHome) -> None:
    """A client that never asked is told of the end by half a close, at which it may ask again elsewhere; what it was about to send
    is taken and thrown away, as a reset in the middle of sending would look like any other broken connection (RFC 9112, 9.6)."""
    serving = home.serve(home.model("model"), "--threads", "1").until_ready("model")
    inflight = home.begin(serving, "model", {"do": "wait", "x": 1})
    host, _, port = serving.url.rpartition("/")[2].partition(":")
    with socket.create_connection((host, int(port)), SECONDS) as idle:
        serving.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        idle.sendall(b"POST /predict/model HTTP/1.1\r\ncontent-length: 2\r\n\r\n")
        idle.sendall(b"{}")
        assert idle.recv(1) == b""
    home.go("model")
    assert inflight.result(60).status == 200


def _refused(serving: Serving) -> bool:
    try:
        serving.get("/v2/health/live", timeout=5)
    except ConnectionRefusedError:
        return True
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
