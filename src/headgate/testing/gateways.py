"""A gateway without sockets, as control sees one: it takes routing tables and says how the replicas are."""

from __future__ import annotations

from headgate.journal import LoadReport, Outcomes, RevisionReport, Wish
from headgate.routes import RouteTable, WishAnswer
from headgate.testing.executors import FakeExecutor


class FakeGateway:
    """One gateway in front of the replicas of a `FakeExecutor`. It may lag behind, and it may be away."""

    def __init__(self, executor: FakeExecutor) -> None:
        self._executor = executor
        self.sent: RouteTable | None = None
        """The newest table it was sent."""
        self.table: RouteTable | None = None
        """The table in force."""
        self.lagging = False
        """While set, it does not put newer tables in force."""
        self.away = False
        """While set, it says nothing."""
        self.inflight: dict[str, int] = {}
        """Revision -> requests under way; none where it is not named."""
        self.wished: dict[int, Wish] = {}
        """What clients wish for, by number, until it is answered."""
        self.answers: list[WishAnswer] = []

    def publish(self, table: RouteTable) -> None:
        """Take a table."""
        self.sent = table
        self.catch_up()

    def catch_up(self) -> None:
        """Put the newest table in force, unless it lags."""
        if not self.lagging:
            self.table = self.sent

    def pull(self, deployment: str, rollout: int, after: int, most: int) -> None:
        """Nobody asks anything of it, so there are no outcomes."""

    def pulled(self, deployment: str) -> Outcomes | None:
        """Return nothing: see `pull`."""
        return None

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """What is wished for and has no answer."""
        return tuple(self.wished.values())

    def answer(self, answer: WishAnswer) -> None:
        """Take the answer to a wish."""
        self.wished.pop(answer.number, None)
        self.answers.append(answer)

    @property
    def failures(self) -> dict[str, str]:
        """Words of the replicas that said FAILED, by id."""
        return self._executor.refusals

    @property
    def report(self) -> LoadReport | None:
        """What it says of itself; None while it is away."""
        self.catch_up()
        if self.away:
            return None
        table = self.table or RouteTable(id=0)
        names = [revision.name for deployment in table.deployments for revision in deployment.revisions]
        return LoadReport(
            gateway="gateway-0",
            table=table.id,
            draining=False,
            connections=0,
            replicas=self._executor.links(),
            revisions=tuple(self._load(name) for name in names),
        )

    def _load(self, revision: str) -> RevisionReport:
        inflight = self.inflight.get(revision, 0)
        return RevisionReport(revision=revision, queued_rows=0, inflight=inflight, requests=0, failures=0, rejected=0)
