"""What clients of the inference port wish for, where they may: carried out by the tick, like everything else.

Level-triggered: a wish stays open until it is answered, and every tick looks at all that are open. Carrying one out again does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Protocol

import msgspec

from headgate.control.model import Deployment, RevisionState, View
from headgate.control.store import Store
from headgate.errors import HeadgateError, PermissionDenied
from headgate.journal import Wish, WishKind
from headgate.registry.registry import Registry
from headgate.routes import WishAnswer
from headgate.spec import DeploymentSpec, parse_reference


class Wishing(Protocol):
    """The gateway, as somebody who has wishes."""

    @property
    def wishes(self) -> Sequence[Wish]:
        """Those without an answer."""
        ...

    def answer(self, answer: WishAnswer) -> None:
        """Say what became of one."""
        ...


class Wishes:
    """The open wishes of the clients of one gateway."""

    def __init__(self, allowed: bool, gateway: Wishing, store: Store, registry: Registry) -> None:
        self._allowed = allowed
        self._gateway = gateway
        self._store = store
        self._registry = registry
        self._begun: dict[Wish, bool] = {}
        """Those that were carried out, and whether there was no deployment before."""

    def begin(self) -> None:
        """Write down what is newly wished for, or answer why it cannot be."""
        wishes = self._gateway.wishes
        self._begun = {wish: fresh for wish, fresh in self._begun.items() if wish in wishes}
        for wish in wishes:
            if wish in self._begun:
                continue
            try:
                if not self._allowed:
                    raise PermissionDenied("this server was not started with --model-control explicit")
                self._begun[wish] = self._carry_out(wish)
            except HeadgateError as error:
                self._gateway.answer(WishAnswer(number=wish.number, error=f"failed to {wish.kind} '{wish.model}': {error}"))

    def answer(self, views: Mapping[str, View]) -> None:
        """Answer what has been fulfilled, or cannot be any more; what could not be loaded is not left behind as a broken deployment."""
        for wish in self._gateway.wishes:
            view = views.get(wish.model)
            answer = outcome(wish, view) if wish in self._begun else None
            if answer is None:
                continue
            if answer.error and self._begun[wish] and view is not None and not view.deployment.deleted:
                self._store.delete(wish.model)
            self._gateway.answer(answer)

    def loadable(self, deployed: Set[str]) -> tuple[str, ...]:
        """Return the names of models that could be loaded."""
        if not self._allowed:
            return ()
        return tuple(sorted({model.name for model in self._registry.models()} - deployed))

    def _carry_out(self, wish: Wish) -> bool:
        """Return whether there was no deployment before."""
        known = self._store.deployment(wish.model)
        fresh = known is None or known.deleted
        if wish.kind is WishKind.LOAD:
            self._load(wish.model, known)
        elif fresh:
            self._registry.model(wish.model)
        else:
            self._store.delete(wish.model)
        return fresh

    def _load(self, name: str, known: Deployment | None) -> None:
        """Deploy the newest version, with the settings the deployment had when it ended; one that is deployed stays as it is."""
        if known is not None and not known.deleted:
            self._store.put(known.spec)  # what has failed gets another try
            return
        version = self._registry.version(name)
        same = known is not None and parse_reference(known.spec.model)[0] == name
        spec = known.spec if known is not None and same else DeploymentSpec(name=name, model=name)
        self._store.put(msgspec.structs.replace(spec, model=version.reference))


def outcome(wish: Wish, view: View | None) -> WishAnswer | None:
    """Return the answer to a wish that has been carried out; None while it is too early."""
    if wish.kind is WishKind.UNLOAD:
        return WishAnswer(number=wish.number)
    if view is None or view.deployment.deleted:
        return WishAnswer(number=wish.number, error=f"load failed for model '{wish.model}': it was unloaded meanwhile")
    asked = view.fulfilling(view.main)
    if asked is None:
        return None
    if asked.state is RevisionState.FAILED:
        said = f"version {asked.target.version} is at UNAVAILABLE state: {asked.reason}"
        return WishAnswer(number=wish.number, error=f"load failed for model '{wish.model}': {said}")
    if asked.state is RevisionState.SERVING and view.ready(asked):
        return WishAnswer(number=wish.number)
    return None
