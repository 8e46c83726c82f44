"""Deploy the targets of 'serve' on the server that has just started, and say how to use them. Called by 'serve' itself."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from headgate.cli import flags, welcome
from headgate.cli.api import Address, Api
from headgate.cli.arguments import add_home, add_packaging, home_of
from headgate.cli.catalog import RemoteCatalog
from headgate.cli.connection import key_of, live_server
from headgate.cli.output import note
from headgate.cli.publish import found, publish
from headgate.cli.specs import apply, overlay
from headgate.cli.waiting import until_live, until_ready, until_routed
from headgate.errors import HeadgateError, InvalidRequest, PermissionDenied, ServerUnreachable, Unauthenticated
from headgate.home import Home
from headgate.package.folders.base import ModelSource

_PR_SET_PDEATHSIG = 1
"""From prctl(2): the signal a process gets when its parent ends."""
_READY_LIMIT = 3600.0
"""Seconds; a replica that does not load is given up by the server itself, much earlier."""


class Deployed(NamedTuple):
    """A deployment that was asked for."""

    name: str
    revision: str | None


class StartingCatalog(RemoteCatalog):
    """The registry of a server whose control is still starting: waits for it, as late as it can, so that the model loads meanwhile."""

    def __init__(self, api: Api, *, fresh: bool) -> None:
        super().__init__(api)
        self._api = api
        self._fresh = fresh

    def known(self, model: str, source_digest: str) -> str | None:
        """Ask, but not for a new home: nothing is known there."""
        if self._fresh:
            return None
        until_live(self._api)
        return super().known(model, source_digest)

    def store(self, folder: Path, digest: str) -> None:
        """Wait, then upload."""
        until_live(self._api)
        super().store(folder, digest)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("targets", metavar="TARGET", nargs="*")
    parser.add_argument("--name")
    parser.add_argument("--key")
    parser.add_argument("--ca", help="the server's own certificate")
    add_home(parser)
    flags.add_flags(parser)
    add_packaging(parser)


def run(args: argparse.Namespace) -> int:
    """Deploy, wait, and print; the exit code is an error's only where nothing is left to serve."""
    server = _server(home_of(args))
    api = Api(Address(server["control_url"], key_of(args), args.ca, pinned=bool(args.ca)))
    inference = Api(Address(server["inference_url"], key_of(args), args.ca, pinned=bool(args.ca)))
    failures: list[HeadgateError] = []
    if not args.targets and not _is_let_in(api):
        print(welcome.server(server), flush=True)
        return 0
    access = welcome.Access(inference, args.ca, bool(key_of(args)))
    with ExitStack() as fetched:
        models = _found(args, fetched)
        deployments = _deploy_all(models, args, api, failures) if models else _deployed_before(api)
    for deployed in deployments:
        try:
            status = until_ready(api, deployed.name, deployed.revision, _READY_LIMIT)
            until_routed(inference, deployed.name)
            print(welcome.deployment(access, status), flush=True)
        except HeadgateError as error:
            failures.append(_said(error))
    return _conclude(server, api, failures)


def _server(home: Home) -> dict[str, Any]:
    """Return where the server is, our parent. From here on we are interrupted when it is killed: without it nothing becomes ready."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    server = live_server(home)
    # Killed before the prctl it tells us nothing; yet its pid is still listed until somebody reaps it, or another server has come.
    if server is None or os.getppid() != server["pid"]:
        raise ServerUnreachable(f"no server runs on {home.path}; 'headgate serve' starts one and calls this itself")
    return server


def _is_let_in(api: Api) -> bool:
    """Whether control tells us what it serves; without targets there is nothing else to ask it, and no reason to end."""
    try:
        until_live(api)
    except (Unauthenticated, PermissionDenied):
        note(
            "serving what the home has deployed; every request needs a key (authorization: Bearer KEY). With an admin key in "
            "HEADGATE_API_KEY, this would say what is deployed"
        )
        return False
    return True


def _found(args: argparse.Namespace, fetched: ExitStack) -> list[ModelSource]:
    """Return the models of all targets; refuse two of one name before any is deployed: the second would silently replace the first."""
    taken: dict[str, str] = {}
    models: list[ModelSource] = []
    for target in args.targets:
        for model in fetched.enter_context(found(target, args)):
            if model.name in taken:
                both = f"{taken[model.name]} and {target}"
                raise InvalidRequest(f"{both} would both be {model.name!r}; rename one, or deploy it with 'headgate deploy --name'")
            taken[model.name] = target
            models.append(model)
    return models


def _deploy_all(models: list[ModelSource], args: argparse.Namespace, api: Api, failures: list[HeadgateError]) -> list[Deployed]:
    """Register and deploy every model; what fails is said and does not hold up the others."""
    catalog = StartingCatalog(api, fresh=not home_of(args).database.exists())
    deployed: list[Deployed] = []
    for model in models:
        try:
            published = publish(catalog, model, args)[-1]
            status = apply(api, model.name, published.reference, overlay(published.settings, flags.settings(args)))
            deployed.append(Deployed(model.name, status["revision"]))
        except HeadgateError as error:
            failures.append(_said(error))
    return deployed


def _deployed_before(api: Api) -> list[Deployed]:
    """Return what the home has deployed."""
    return [Deployed(entry["name"], entry["revision"]) for entry in until_live(api)["deployments"]]


def _said(error: HeadgateError) -> HeadgateError:
    note(f"headgate: {error}")
    return error


def _conclude(server: dict[str, Any], api: Api, failures: list[HeadgateError]) -> int:
    """Say where the server is, and end it by an exit code only where it has failed and has nothing to do."""
    deployments = until_live(api)["deployments"]
    serving = [entry["name"] for entry in deployments if entry["state"] in ("ready", "degraded")]
    if failures and not serving:
        return failures[0].exit
    if not deployments:
        note("nothing is deployed yet; deploy a model with: headgate deploy model.onnx")
    elif len(serving) > 1:
        print(f"\nserving {', '.join(serving)}")
    print(welcome.server(server), flush=True)
    return 0
