"""A whole control plane on a manual clock: the real store, tick and decisions; fake registry, packages, executor and gateway."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from headgate.control.model import Prepared, Refused, Revision
from headgate.control.packages import Facts
from headgate.control.reconcile import Reconciler, Setting, World
from headgate.control.routing import Machine
from headgate.control.store import Store
from headgate.errors import NotFound
from headgate.registry.database import Database
from headgate.routes import RouteTable
from headgate.spec import DeploymentSpec, parse_reference, parse_spec
from headgate.testing.clock import ManualClock
from headgate.testing.executors import FakeExecutor, Script
from headgate.testing.gateways import FakeGateway


class FakeVersion(NamedTuple):
    model: str
    number: int
    digest: str

    @property
    def reference(self) -> str:
        return f"{self.model}@{self.number}"


class FakeModel(NamedTuple):
    aliases: dict[str, int]


class FakeKeys:
    def __init__(self) -> None:
        self.good = ()

    def hashes(self):
        return self.good


class FakeRegistry:
    """Every model has versions 1 to 9; the digest tells model and version."""

    def __init__(self) -> None:
        self.aliases: dict[str, int] = {}
        self.keys = FakeKeys()

    def version(self, reference: str) -> FakeVersion:
        model, selector = parse_reference(reference)
        number = self.aliases.get(selector) if isinstance(selector, str) else (selector or 9)
        if number is None or not 1 <= number <= 9:
            raise NotFound(f"{reference}: there is no such version")
        return FakeVersion(model, number, f"sha256:{model}-{number}")

    def model(self, name: str) -> FakeModel:
        return FakeModel(dict(self.aliases))


class FakePackages:
    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.preparing: set[str] = set()
        self.signatures: dict[str, bytes] = {}

    def facts(self, digest: str) -> Facts:
        signature = self.signatures.get(digest, b'{"inputs":[],"outputs":[]}')
        return Facts(signature=signature, platform="onnx", idempotent=True, splittable=True, v1="tfserving")

    def folder(self, digest: str) -> Path:
        return Path("/packages") / digest

    def look(self, digest: str) -> Prepared | Refused | None:
        if digest in self.preparing:
            return None
        return Refused(reason=self.refused[digest]) if digest in self.refused else Prepared(python=None)

    def keep(self, digests) -> None:
        pass


class Recorder(FakeGateway):
    """A gateway that remembers every table."""

    def __init__(self, executor: FakeExecutor) -> None:
        super().__init__(executor)
        self.tables: list[RouteTable] = []

    def publish(self, table: RouteTable) -> None:
        self.tables.append(table)
        super().publish(table)


class ControlWorld:
    """Control and everything around it; `restart` kills control, and nothing but what is stored survives."""

    def __init__(self, folder: Path, template: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if template is not None:
            shutil.copy(template, folder / "headgate.db")
        self.database = Database(folder / "headgate.db")
        self.clock = ManualClock()
        self.executor = FakeExecutor(self.clock)
        self.gateway = Recorder(self.executor)
        self.registry = FakeRegistry()
        self.packages = FakePackages()
        self.behaviours: dict[str, Script] = {}
        """How the replicas of a package behave, by its digest."""
        self.model_control = False
        """Whether clients may load and unload; from the next `restart` on."""
        self._folder = folder
        self.restart()

    def restart(self) -> None:
        self.store = Store(self.database, self.clock)
        world = World(self.store, self.registry, self.packages, self.executor, self.gateway, self.clock)
        machine = Machine(cores=8, python="/server/python")
        self.control = Reconciler(world, Setting(machine, self._folder / "routes.json", model_control=self.model_control))

    def tick(self) -> None:
        self.control.tick()
        for spec in self.executor.applied:
            self.executor.scripts.setdefault(spec.revision, self.behaviours.get(Path(spec.package).name, Script()))

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(max(1, round(seconds / step))):
            self.clock.advance(step)
            self.tick()

    def put(self, model: str, **fields) -> None:
        self.store.put(spec_of(model, **fields))
        self.tick()

    def revisions(self, name: str = "fraud") -> dict[str, str]:
        return {revision.name: str(revision.state) for revision in self.store.load().revisions.get(name, ())}

    def revision(self, name: str) -> Revision:
        return next(found for found in self.store.load().revisions[name.rpartition("-")[0]] if found.name == name)

    def split(self, name: str = "fraud") -> dict[str, int]:
        table = self.gateway.sent
        routes = {route.name: route for route in table.deployments} if table else {}
        return {weight.revision: weight.share for weight in routes[name].split} if name in routes else {}

    def running(self) -> list[str]:
        return sorted(spec.id for spec in self.executor.applied)

    def close(self) -> None:
        self.database.close()


def spec_of(model: str, **fields) -> DeploymentSpec:
    return parse_spec({"name": model.partition("@")[0], "model": model, **fields})
