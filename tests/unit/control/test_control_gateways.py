"""Control's end of the link, over streams that nobody else holds."""

from __future__ import annotations

import asyncio
import json

import pytest

from headgate.control import gateways
from headgate.control.gateways import FRAME, GatewayLink, frame
from headgate.journal import LinkState, LoadReport, ReplicaReport, Wish, WishKind, encode_report, encode_wish
from headgate.routes import RouteTable, WishAnswer, decode_answer, decode_table
from headgate.serving import link


class Stream:
    """The writing side, remembered."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def frames(self) -> list[tuple[int, bytes]]:
        found, data = [], self.data
        while data:
            length, kind, _, _, _ = FRAME.unpack_from(data)
            found.append((kind, data[FRAME.size : 4 + length]))
            data = data[4 + length :]
        return found


def talk(link_: GatewayLink, *said: bytes) -> Stream:
    """Let a gateway say ``said`` and go away; return what control wrote meanwhile."""
    stream = Stream()

    async def run() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(said))
        reader.feed_eof()
        link_._writer = stream
        with pytest.raises(EOFError):
            await link_._linked(reader, stream)

    asyncio.run(run())
    return stream


def report(*replicas: ReplicaReport) -> bytes:
    return frame(
        gateways.REPORT, encode_report(LoadReport(gateway="gateway-0", table=1, draining=False, connections=0, replicas=replicas))
    )


def replica(number: int, state: LinkState, reason: str = "") -> ReplicaReport:
    return ReplicaReport(id=f"fraud-1.{number}", revision="fraud-1", pid=1, state=state, reason=reason)


def test_both_ends_speak_of_the_same_frames():
    """The format stands in two rooms that may not know each other; it is one."""
    assert gateways.FRAME.format == link.FRAME.format
    assert (gateways.PROTOCOL, gateways.HELLO, gateways.ROUTES, gateways.REPORT) == (
        link.PROTOCOL,
        link.HELLO,
        link.ROUTES,
        link.REPORT,
    )
    assert (gateways.WISH, gateways.ANSWER) == (link.WISH, link.ANSWER)
    assert frame(gateways.HELLO, b"x") == link.frame(link.HELLO, b"x")


def test_a_gateway_that_comes_back_is_told_the_newest_table(tmp_path):
    """HELLO, then the table, on every connection."""
    link_ = GatewayLink(tmp_path / "none.sock", lambda: None)
    link_.publish(RouteTable(id=3))
    link_.publish(RouteTable(id=4))
    for _ in range(2):
        hello, routes = talk(link_).frames()
        assert (hello[0], json.loads(hello[1])) == (gateways.HELLO, {"protocol": 1, "role": "control"})
        assert (routes[0], decode_table(routes[1]).id) == (gateways.ROUTES, 4)


def test_reports_are_news_and_end_with_the_link(tmp_path):
    """Each report calls ``changed``; without a link there is none."""
    news: list[bool] = []
    link_ = GatewayLink(tmp_path / "none.sock", lambda: news.append(True))
    stream = talk(link_, report(replica(1, LinkState.LOADING)), report(replica(1, LinkState.READY)))
    assert link_.report is not None
    assert (link_.report.replicas[0].state, len(news)) == (LinkState.READY, 2)
    link_._unlinked(stream)
    assert (link_.report, len(news)) == (None, 3)


def test_what_a_failed_replica_said_is_remembered(tmp_path):
    """It ends at once, and the next report, with its successor, must not make control forget."""
    link_ = GatewayLink(tmp_path / "none.sock", lambda: None)
    talk(link_, report(replica(1, LinkState.FAILED, "no such file")), report(replica(1, LinkState.LOADING)))
    assert link_.failures == {"fraud-1.1": "no such file"}


@pytest.mark.parametrize("said", [FRAME.pack(1 << 30, gateways.REPORT, 0, 0, 0), frame(gateways.REPORT, b"{")])
def test_a_broken_peer_is_cut_off(tmp_path, said):
    """Absurd lengths and broken reports end the connection with an error that `run` turns into a new one."""

    async def run() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(said)
        await GatewayLink(tmp_path / "none.sock", lambda: None)._linked(reader, Stream())

    with pytest.raises(ValueError, match=r"frame of|truncated"):
        asyncio.run(run())


def test_wishes_are_open_until_they_are_answered(tmp_path):
    """Each is news; one that is said again is still one; the answer goes out behind the newest table; with the link they are gone."""
    news: list[bool] = []
    link_ = GatewayLink(tmp_path / "none.sock", lambda: news.append(True))
    wishes = [Wish(number=number, kind=WishKind.LOAD, model="m") for number in (4, 5)]
    stream = talk(link_, *[frame(gateways.WISH, encode_wish(wish)) for wish in (*wishes, wishes[0])])
    assert (link_.wishes, len(news)) == (tuple(wishes), 3)

    async def answer() -> None:
        link_._loop = asyncio.get_running_loop()
        link_.publish(RouteTable(id=9))
        link_.answer(WishAnswer(number=4, error="no"))
        await asyncio.sleep(0)

    stream.data = b""
    asyncio.run(answer())
    (routes, said) = stream.frames()
    assert (routes[0], said[0], decode_answer(said[1])) == (gateways.ROUTES, gateways.ANSWER, WishAnswer(number=4, error="no"))
    assert link_.wishes == (wishes[1],)
    link_._unlinked(stream)
    assert link_.wishes == ()


def test_kinds_nobody_knows_are_skipped(tmp_path):
    """A newer gateway may say more."""
    link_ = GatewayLink(tmp_path / "none.sock", lambda: None)
    talk(link_, frame(99, b"?"), report())
    assert link_.report is not None
