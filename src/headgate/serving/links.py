"""Who is linked to this gateway: its replicas, and control, which is told how they are."""

from __future__ import annotations

from collections.abc import Callable

from headgate.journal import LinkState, LoadReport, encode_report
from headgate.serving import link
from headgate.serving.catalogue import Catalogue
from headgate.serving.replicas import Peer, ReplicaLink


class Links:
    """The replicas and controls of one gateway."""

    def __init__(self, gateway: str, catalogue: Catalogue, now: Callable[[], float]) -> None:
        self._gateway = gateway
        self._catalogue = catalogue
        self._now = now
        self._replicas: set[ReplicaLink] = set()
        self._controls: set[Peer] = set()
        catalogue.administration.send = self.tell

    def changed(self, replica: ReplicaLink) -> None:
        """A replica has linked, become ready, failed or gone."""
        if replica.state is LinkState.LOST or replica.gone:
            self._replicas.discard(replica)
        else:
            self._replicas.add(replica)
        self.report(replica)

    def replicas(self) -> list[ReplicaLink]:
        """Return all that are linked."""
        return list(self._replicas)

    def add_control(self, peer: Peer) -> None:
        """Control is there (again)."""
        self._controls.add(peer)
        self.report()
        self._catalogue.administration.repeat()

    def drop_control(self, peer: Peer) -> None:
        """Control has gone; everything goes on."""
        self._controls.discard(peer)

    def tell(self, frame: bytes) -> bool:
        """Send control a frame; False if there is none."""
        for peer in self._controls:
            peer.send(frame)
        return bool(self._controls)

    def watch(self, now: float) -> None:
        """Cut the links of replicas that hang."""
        for replica in self.replicas():
            if replica.revision is not None:
                replica.watch(now, replica.revision.route.batch_timeout)

    def report(self, gone: ReplicaLink | None = None) -> None:
        """Tell control how things stand; a replica that has just gone is named one last time."""
        if not self._controls:
            return
        now = self._now()
        replicas = self._replicas | ({gone} if gone is not None else set())
        catalogue = self._catalogue
        report = LoadReport(
            gateway=self._gateway,
            epoch=catalogue.outcomes.epoch,
            table=catalogue.table.id,
            draining=catalogue.draining,
            connections=catalogue.connections,
            replicas=tuple(replica.report(now) for replica in replicas),
            revisions=tuple(revision.report() for revision in catalogue.revisions.values()),
        )
        frame = link.frame(link.REPORT, encode_report(report))
        for peer in self._controls:
            peer.send(frame)
