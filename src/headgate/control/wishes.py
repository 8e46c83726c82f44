"""What clients of the inference port wish for, where they may: carried out by the tick, like everything else.

Level-triggered: a wish stays open until it is answered, and every tick looks at all that are open. Carrying one out again does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Protocol

import msgspec

from headgate.control.model import DONE_WITH, Deployment, RevisionState, View
from headgate.control.reloading import listed, spec_of
from headgate.control.store import Store
from headgate.errors import HeadgateError, InvalidRequest, PermissionDenied
from headgate.journal import Wish, WishKind
from headgate.registry.registry import Registry
from headgate.routes import WishAnswer
from headgate.spec import parse_reference


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
        self._begun: dict[Wish, frozenset[str]] = {}
        """Those that were carried out, and the names that were not deployed before."""

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
                self._gateway.answer(_refusal(wish, error))

    def answer(self, views: Mapping[str, View]) -> None:
        """Answer what has been fulfilled, or cannot be any more; what could not be loaded is not left behind as a broken deployment."""
        for wish in self._gateway.wishes:
            fresh = self._begun.get(wish)
            if fresh is None:
                continue
            whole = wish.kind is WishKind.RELOAD
            states = {name: trouble(name, views.get(name), whole=whole) for name in _loaded_by(wish)}
            failed = {name: why for name, why in states.items() if why}
            if failed:
                for name in fresh & failed.keys():
                    if name in views and not views[name].deployment.deleted:
                        self._store.delete(name)
                self._gateway.answer(WishAnswer(number=wish.number, error="; ".join(failed.values())))
            elif None not in states.values() and self._is_labelled(wish):
                self._gateway.answer(WishAnswer(number=wish.number))

    def loadable(self, deployed: Set[str]) -> tuple[str, ...]:
        """Return the names of models that could be loaded."""
        if not self._allowed:
            return ()
        return tuple(sorted({model.name for model in self._registry.models()} - deployed))

    def _carry_out(self, wish: Wish) -> frozenset[str]:
        """Return the names that were not deployed before."""
        if wish.kind is WishKind.RELOAD:
            return self._reload(wish)
        known = self._store.deployment(wish.model)
        fresh = known is None or known.deleted
        if wish.kind is WishKind.LOAD:
            self._load(wish.model, known)
        elif fresh:
            self._registry.model(wish.model)
        else:
            self._store.delete(wish.model)
        return frozenset({wish.model} if fresh else ())

    def _load(self, name: str, known: Deployment | None) -> None:
        """Deploy the newest version, with the settings the deployment had when it ended; one that is deployed stays as it is."""
        spec = spec_of(name, known)
        if known is None or known.deleted:
            spec = msgspec.structs.replace(spec, model=self._registry.version(name).reference)
        self._store.put(spec)  # what is deployed and has failed gets another try

    def _reload(self, wish: Wish) -> frozenset[str]:
        """Deploy what is listed, and end what is not. Nothing is done where something of it cannot be."""
        wanted = [entry.spec for entry in listed(wish.models, self._store, self._registry)]
        deployed = {deployment.name for deployment in self._store.load().deployments if not deployment.deleted}
        for spec in wanted:
            self._store.put(spec)
        names = {spec.name for spec in wanted}
        for name in sorted(deployed - names):
            self._store.delete(name)
        return frozenset(names - deployed)

    def _is_labelled(self, wish: Wish) -> bool:
        """Whether the labels of a list point where they should; if not, they do from the next routing table on."""
        moved = False
        for entry in wish.models:
            known = self._store.deployment(entry.name)
            model = parse_reference(known.spec.model)[0] if known is not None else entry.name
            aliases = self._registry.model(model).aliases
            for label, number in entry.labels:
                if aliases.get(label) != number:
                    self._registry.set_alias(model, label, number)
                    moved = True
        return not moved


def trouble(name: str, view: View | None, *, whole: bool) -> str | None:
    """Say why a model that was to be loaded does not serve: nothing if it does, None while it is too early to tell.

    ``whole``: with all that is to be kept warm beside the version that serves.
    """
    if view is None or view.deployment.deleted:
        return f"load failed for model '{name}': it was unloaded meanwhile"
    early = view.main is None
    for target in view.wanted() if whole else (view.main,):
        asked = view.fulfilling(target)
        if asked is not None and asked.state in DONE_WITH:
            return f"load failed for model '{name}': version {asked.target.version} is at UNAVAILABLE state: {asked.reason}"
        states = (RevisionState.SERVING,) if target == view.main else (RevisionState.SERVING, RevisionState.READY)
        early = early or asked is None or asked.state not in states or not view.ready(asked)
    return None if early else ""


def _loaded_by(wish: Wish) -> Sequence[str]:
    """Return the names that must serve before a wish is fulfilled."""
    if wish.kind is WishKind.RELOAD:
        return [entry.name for entry in wish.models]
    return [wish.model] if wish.kind is WishKind.LOAD else []


def _refusal(wish: Wish, error: HeadgateError) -> WishAnswer:
    code = error.code if isinstance(error, InvalidRequest) else InvalidRequest.code
    what = f"'{wish.model}'" if wish.model else "the configuration"
    return WishAnswer(number=wish.number, error=f"failed to {wish.kind} {what}: {error}", code=code)
