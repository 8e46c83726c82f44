"""What each route of the control API does. Nothing here blocks the event loop: hashing, databases and archives have threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor as Threads
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

import headgate
from headgate.control import event_stream, logs, server
from headgate.control.bodies import AliasBody, KeyBody, VersionBody, WhyBody, json_object, json_struct, to_disk
from headgate.control.hook_delivery import read_secret
from headgate.control.hook_guard import Rules, check_hooks
from headgate.control.model import View
from headgate.control.orders import order, roll_back
from headgate.control.reconcile import Reconciler
from headgate.control.rollout_status import rollout_status
from headgate.control.rollouts import Line
from headgate.control.status import DeploymentStatus, deployment_status
from headgate.control.store import Store
from headgate.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge, SpecError, did_you_mean
from headgate.home import Home, check_room
from headgate.judge.slo import parse_slo
from headgate.registry.blobs import ARCHIVE_BYTES
from headgate.registry.registry import Origin, Registry
from headgate.spec import check_name, parse_reference, parse_spec

T = TypeVar("T")


class Backend(NamedTuple):
    """What the endpoints work on."""

    home: Home
    store: Store
    registry: Registry
    reconciler: Reconciler
    ticks: Threads
    """The one thread that ticks run in; whoever changes desired state does it there, between two ticks."""
    inference_url: str
    default_deployment: str | None = None
    require_key: bool = False
    hooks: Rules = Rules()


class Endpoints:
    """One method a route; `headgate.control.api.ROUTES` names them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # ---- server

    async def healthz(self, request: Request) -> Response:
        """Say that control lives."""
        return answer({"live": True})

    async def status(self, request: Request) -> Response:
        """Return the server and every deployment."""
        views = self._backend.reconciler.views
        return answer(
            {"server": await asyncio.to_thread(self._server), "deployments": [self._status(name) for name in sorted(views)]}
        )

    async def stop(self, request: Request) -> Response:
        """Let the server drain and end."""
        return answer({"stopping": True, **await asyncio.to_thread(server.end_server, self._backend.home)}, 202)

    def _server(self) -> dict[str, Any]:
        facts = server.server_facts(self._backend.home)
        report = self._backend.reconciler.report
        return {
            "version": headgate.__version__,
            "pid": facts.get("pid"),
            "inference_url": self._backend.inference_url,
            "control_url": facts.get("control_url"),
            "default_deployment": self._backend.default_deployment,
            "gateway": None
            if report is None
            else {"table": report.table, "draining": report.draining, "connections": report.connections},
        }

    # ---- deployments

    async def deployments(self, request: Request) -> Response:
        """Return every deployment."""
        return answer([self._status(name) for name in sorted(self._backend.reconciler.views)])

    async def deployment(self, request: Request) -> Response:
        """Return one deployment."""
        return answer(self._status(request.path_params["name"]))

    async def put_deployment(self, request: Request) -> Response:
        """Write down what is asked for, and return the status with the revision that follows from it."""
        name, expected = request.path_params["name"], _generation(request)
        fields = await json_object(request)
        if fields.setdefault("name", name) != name:
            raise SpecError(f"name: expected {name!r}, as the path says, got {fields['name']!r}")
        await self._change(lambda: self._put(fields, expected))
        return answer(self._status(name), 202)

    async def delete_deployment(self, request: Request) -> Response:
        """Let a deployment drain and end."""
        name = request.path_params["name"]
        await self._change(lambda: self._backend.store.delete(name))
        return answer({"name": name, "state": "stopping"}, 202)

    async def logs(self, request: Request) -> Response:
        """Return the last lines of its replicas' logs, and with ``follow=1`` those to come."""
        name, home = request.path_params["name"], self._backend.home
        self._status(check_name(name, "name"))
        count, follow = _tail(request), request.query_params.get("follow", "0") not in ("", "0", "false")
        follower = await asyncio.to_thread(logs.Follower, home, name)
        last = await asyncio.to_thread(lambda: logs.tail(logs.replica_logs(home, name), count))

        async def lines() -> AsyncIterator[str]:
            yield "".join(f"{line}\n" for line in last)
            if follow:
                async for line in follower.lines():
                    yield line

        return StreamingResponse(lines(), media_type="text/plain; charset=utf-8")

    # ---- rollouts

    async def rollout(self, request: Request) -> Response:
        """Return the newest rollout of a deployment."""
        view = self._view(request.path_params["name"])
        status = rollout_status(view)
        if status is None:
            raise NotFound(
                f"deployment {view.deployment.name!r} has had no rollout: nothing has taken over from another revision step by step"
            )
        return answer(status)

    async def order_rollout(self, request: Request) -> Response:
        """Pause, resume, promote or abort the rollout under way, and return how it stands then."""
        path, body = request.path_params, await json_struct(request, WhyBody)
        who = request.state.by
        await self._change(lambda: order(self._backend.store, self._view(path["name"]), path["verb"], who, body.why))
        return answer(rollout_status(self._view(path["name"])))

    async def roll_back(self, request: Request) -> Response:
        """Let the revision serve again that served before."""
        name, body = request.path_params["name"], await json_struct(request, WhyBody)
        who = request.state.by
        return answer(await self._change(lambda: roll_back(self._backend.store, self._view(name), who, body.why)), 202)

    async def history(self, request: Request) -> Response:
        """Return who changed what takes the traffic, when and why, oldest first; ``tail`` lines of it."""
        name, count = await self._known(request), _tail(request, 1000)
        return answer(await asyncio.to_thread(self._backend.store.history, name, count))

    async def events(self, request: Request) -> Response:
        """Return the lines to come of a deployment's history as server-sent events; before them ``tail`` lines, or all a client missed."""
        name, store = await self._known(request), self._backend.store
        after, count = event_stream.resumed_after(request.headers.get("last-event-id")), _tail(request, 0)
        if after is None:
            last = await asyncio.to_thread(store.history, name, count + 1)
            after = 0 if len(last) <= count else last[0].id

        async def read(after: int, most: int) -> list[Line]:
            return await asyncio.to_thread(store.lines, name, after, most)

        lines = event_stream.stream(read, after, asyncio.sleep)
        return StreamingResponse(lines, media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def _known(self, request: Request) -> str:
        """Return the name of a deployment that is, or was. Raises `NotFound`."""
        name = check_name(request.path_params["name"], "name")
        if await asyncio.to_thread(self._backend.store.deployment, name) is None:
            self._view(name)
        return name

    def _put(self, fields: dict[str, Any], expected: int | None) -> None:
        spec = parse_spec(fields)
        parse_slo(spec.rollout.slo)
        check_hooks(spec.hooks, self._backend.hooks, partial(read_secret, self._backend.home.secrets))
        version = self._backend.registry.version(spec.model)
        for number in spec.also:
            self._backend.registry.version(f"{version.model}@{number}")
        if parse_reference(spec.model)[1] is None:
            # The newest of today: what is pushed later is deployed when somebody says so.
            spec = msgspec.structs.replace(spec, model=version.reference)
        check_room(self._backend.home.path)
        self._backend.store.put(spec, expected)

    def _view(self, name: str) -> View:
        reconciler = self._backend.reconciler
        view = reconciler.views.get(name)
        if view is None:
            raise NotFound(f"deployment {name[:200]!r}: there is no such deployment{did_you_mean(name, reconciler.views)}")
        return view

    def _status(self, name: str) -> DeploymentStatus:
        reconciler, view = self._backend.reconciler, self._view(name)
        url = f"{self._backend.inference_url}/v2/models/{name}"
        trouble = reconciler.errors.get(name, "") or reconciler.trouble
        return deployment_status(view, url, trouble, reconciler.dialect(name))

    # ---- registry

    async def models(self, request: Request) -> Response:
        """Return every model."""
        return answer(await asyncio.to_thread(self._backend.registry.models))

    async def model(self, request: Request) -> Response:
        """Return one model."""
        return answer(await asyncio.to_thread(self._backend.registry.model, request.path_params["name"]))

    async def versions(self, request: Request) -> Response:
        """Return the versions of a model, oldest first."""
        return answer(await asyncio.to_thread(self._backend.registry.versions, request.path_params["name"]))

    async def register(self, request: Request) -> Response:
        """Make a stored package a version: 201; 200 with the one there is where its source is registered already."""
        body = await json_struct(request, VersionBody)
        origin = Origin(by=request.state.by, note=body.note, trusted_by=body.trusted_by, relock=body.relock, number=body.number)
        register = self._backend.registry.register
        version, created = await asyncio.to_thread(register, request.path_params["name"], body.digest, origin)
        return answer(version, 201 if created else 200)

    async def set_alias(self, request: Request) -> Response:
        """Point an alias at a version; what is deployed by it follows."""
        body, path = await json_struct(request, AliasBody), request.path_params
        move = self._backend.registry.set_alias
        return answer(await self._change(lambda: move(path["name"], path["alias"], body.version, request.state.by)))

    async def delete_alias(self, request: Request) -> Response:
        """Remove an alias; what is deployed by it stays as it is."""
        path, remove = request.path_params, self._backend.registry.delete_alias
        await self._change(lambda: remove(path["name"], path["alias"], request.state.by))
        return answer({"name": path["name"], "alias": path["alias"], "deleted": True})

    # ---- packages

    async def upload(self, request: Request) -> Response:
        """Take a tar of a package, verify it and store it."""
        announced = request.headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced) > ARCHIVE_BYTES:
            raise PayloadTooLarge(
                f"content-length: expected at most {ARCHIVE_BYTES} bytes, got {announced[:40]}; nothing was stored"
            )
        store = self._backend.registry.store
        with store.staging() as folder:
            await to_disk(request, folder / "upload.tar", ARCHIVE_BYTES)
            digest = await asyncio.to_thread(store.add_archive, folder / "upload.tar")
        return answer({"digest": digest}, 201)

    async def has_package(self, request: Request) -> Response:
        """Say whether a package is stored, and whole; one that is damaged is as good as none, so that it is sent again."""
        digest, store = request.path_params["digest"], self._backend.registry.store
        if not await asyncio.to_thread(store.is_whole, digest):
            raise NotFound(f"package {digest}: not in this store, or damaged; push it")
        return Response()

    # ---- keys

    async def keys(self, request: Request) -> Response:
        """Return every key, without its secret."""
        return answer(await asyncio.to_thread(self._backend.registry.keys.all))

    async def create_key(self, request: Request) -> Response:
        """Make a key; only this answer holds it."""
        body = await json_struct(request, KeyBody)
        created = await self._change(lambda: _create_key(self._backend, body))
        return answer(created, 201)

    async def revoke_key(self, request: Request) -> Response:
        """Make a key worthless."""
        return answer(await self._change(lambda: _revoke_key(self._backend, request.path_params["id"])))

    async def _change(self, change: Callable[[], T]) -> T:
        """Make a change between two ticks, and tick: the answer then tells what follows from it."""

        def change_and_tick() -> T:
            result = change()
            self._backend.reconciler.try_tick()
            return result

        return await asyncio.get_running_loop().run_in_executor(self._backend.ticks, change_and_tick)


def _create_key(backend: Backend, body: KeyBody) -> dict[str, Any]:
    keys = backend.registry.keys
    if "admin" not in body.scopes and not _admins(backend, besides=None):
        raise Conflict(
            "scopes: the first key must have the scope admin, because this API wants a key as soon as there is one; nothing was made. "
            "Make an admin key first ('headgate key create --scope admin'), then this one"
        )
    key, text = keys.create(body.name or "key", body.scopes)
    return {**msgspec.to_builtins(key), "key": text}


def _revoke_key(backend: Backend, key: str) -> Any:
    keys = backend.registry.keys
    number = key.split("_")[1] if key.startswith("hg_") else key
    others = [good for good in keys.hashes() if good.id != number]
    if (others or backend.require_key) and not _admins(backend, besides=number):
        raise Conflict(
            f"key {number[:40]}: it is the last with the scope admin, and without one nobody could manage this server; nothing was "
            "changed. Make another admin key first, or revoke the other keys before it"
        )
    return keys.revoke(key)


def _admins(backend: Backend, besides: str | None) -> list[str]:
    return [key.id for key in backend.registry.keys.hashes() if "admin" in key.scopes and key.id != besides]


def answer(value: Any, status: int = 200) -> Response:
    """Return ``value`` as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _generation(request: Request) -> int | None:
    text = request.headers.get("if-match")
    if text is None:
        return None
    number = text.strip().strip('"')
    if not number.isdecimal():
        raise InvalidRequest(f"If-Match: expected the generation of the deployment, a number, got {text[:40]!r}")
    return int(number)


def _tail(request: Request, default: int = 100) -> int:
    text = request.query_params.get("tail", str(default))
    if not text.isdecimal() or int(text) > logs.LONGEST_TAIL:
        raise InvalidRequest(f"tail: expected a number of lines up to {logs.LONGEST_TAIL}, got {text[:40]!r}")
    return int(text)
