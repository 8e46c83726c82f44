"""`Client` and `AsyncClient`: they carry the requests of `headgate.client.steps` over httpx, and do nothing else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from headgate.client import steps
from headgate.client.parts import Events
from headgate.client.steps import Options, Steps
from headgate.client.wire import Metadata, Request, Response, check
from headgate.errors import DeadlineExceeded, ServerUnreachable

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8080"
"""Where ``headgate serve`` listens unless told otherwise."""


class Client:
    """A client of one server's deployments. Threads may share it; close it, or use it as a context manager.

    ``url`` is the inference port. ``key`` is an API key (default: ``$HEADGATE_API_KEY``), ``timeout`` the seconds an answer may
    take, ``ca`` a file of certificate authorities to trust beside those of the system. Failures are raised as the classes of
    `headgate.errors`; nothing is sent twice.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None, timeout: float = 60.0, ca: str | None = None) -> None:
        import httpx

        self.url = url.rstrip("/")
        self._known: steps.Known = {}
        self._http = httpx.Client(**_settings(self.url, key, timeout, ca))

    def predict(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | str | None = None,
        timeout: float | None = None,
        parameters: Mapping[str, object] | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Run ``deployment`` on ``data`` and return the answer as the same kind of thing.

        - a dict of named inputs (arrays, lists, scalars) gives a dict of arrays; values for one row give the values of one row;
        - a NumPy array, for a deployment that needs one input, gives the array of its output (a dict where there are several);
        - a pandas or polars data frame gives a data frame, with the same index;
        - a list of rows (dicts) gives a list of rows.

        Text comes back as `str`. ``version`` is a registry version or an alias, ``timeout`` the seconds after which the server
        gives up, ``parameters`` go to the model, ``request_id`` comes back and is the event's id.
        """
        return self._run(steps.predict(self._known, deployment, data, Options(version, timeout, parameters, request_id)))

    def stream(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | str | None = None,
        timeout: float | None = None,
        parameters: Mapping[str, object] | None = None,
        request_id: str | None = None,
    ) -> Iterator[Any]:
        """Run ``deployment``, which answers in parts, on ``data`` and yield each part as it comes.

        A dict of named inputs gives dicts of outputs; text, a number or an array, for a deployment that needs one input, gives its output
        (a dict where there are several). One value is a Python value, others are arrays; one of which more than one dimension varies
        comes flat.
        The options are those of `predict`. Nothing is sent before the first part is asked for, and an error may come after some parts.
        Leave the loop early and the model is stopped.
        """
        asked = self._run(steps.stream(self._known, deployment, data, Options(version, timeout, parameters, request_id)))
        events = Events()
        with _explained(self.url), self._http.stream(**_call(asked.request)) as answer:
            if answer.status_code != 200:
                answer.read()
                check(_response(answer))
            for piece in answer.iter_bytes():
                yield from map(asked.read, events.feed(piece))

    def predict_rows(self, deployment: str, rows: Any, *, version: int | str | None = None, timeout: float | None = None) -> Any:
        """Run ``deployment`` on plain rows as ``POST /predict/{deployment}`` takes them: a dict gives a dict, a list a list."""
        return self._run(steps.predict_rows(deployment, rows, Options(version, timeout)))

    def metadata(self, deployment: str, *, version: int | str | None = None) -> Metadata:
        """Return what ``deployment`` takes and gives."""
        return self._run(steps.metadata(deployment, version))

    def ready(self, deployment: str | None = None) -> bool:
        """Return whether the server, or one deployment, is ready to answer. Raises `ServerUnreachable` where there is none."""
        return self._run(steps.ready(deployment))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, work: Steps[T]) -> T:
        try:
            request = next(work)
            while True:
                with _explained(self.url):
                    answer = self._http.request(**_call(request))
                request = work.send(_response(answer))
        except StopIteration as end:
            result: T = end.value
            return result


class AsyncClient:
    """`Client` for asyncio: the same methods, awaited."""

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None, timeout: float = 60.0, ca: str | None = None) -> None:
        import httpx

        self.url = url.rstrip("/")
        self._known: steps.Known = {}
        self._http = httpx.AsyncClient(**_settings(self.url, key, timeout, ca))

    async def predict(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | str | None = None,
        timeout: float | None = None,
        parameters: Mapping[str, object] | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Run ``deployment`` on ``data``; see `Client.predict`."""
        return await self._run(steps.predict(self._known, deployment, data, Options(version, timeout, parameters, request_id)))

    async def stream(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | str | None = None,
        timeout: float | None = None,
        parameters: Mapping[str, object] | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[Any]:
        """Run ``deployment``, which answers in parts; see `Client.stream`. Iterate with ``async for``."""
        asked = await self._run(steps.stream(self._known, deployment, data, Options(version, timeout, parameters, request_id)))
        events = Events()
        with _explained(self.url):
            async with self._http.stream(**_call(asked.request)) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    check(_response(answer))
                async for piece in answer.aiter_bytes():
                    for found in events.feed(piece):
                        yield asked.read(found)

    async def predict_rows(
        self, deployment: str, rows: Any, *, version: int | str | None = None, timeout: float | None = None
    ) -> Any:
        """Run ``deployment`` on plain rows; see `Client.predict_rows`."""
        return await self._run(steps.predict_rows(deployment, rows, Options(version, timeout)))

    async def metadata(self, deployment: str, *, version: int | str | None = None) -> Metadata:
        """Return what ``deployment`` takes and gives."""
        return await self._run(steps.metadata(deployment, version))

    async def ready(self, deployment: str | None = None) -> bool:
        """Return whether the server, or one deployment, is ready to answer."""
        return await self._run(steps.ready(deployment))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def _run(self, work: Steps[T]) -> T:
        try:
            request = next(work)
            while True:
                with _explained(self.url):
                    answer = await self._http.request(**_call(request))
                request = work.send(_response(answer))
        except StopIteration as end:
            result: T = end.value
            return result


def _settings(url: str, key: str | None, timeout: float, ca: str | None) -> dict[str, Any]:
    """Return the settings that both clients of httpx take."""
    key = key or os.environ.get("HEADGATE_API_KEY")
    settings: dict[str, Any] = {
        "base_url": url,
        "timeout": timeout,
        "headers": {"authorization": f"Bearer {key}"} if key else {},
        # A proxy from the environment knows another loopback than ours.
        "mounts": {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None},
    }
    if ca:
        import ssl

        settings["verify"] = ssl.create_default_context(cafile=ca)
    return settings


def _call(request: Request) -> dict[str, Any]:
    call: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "headers": dict(request.headers),
        "content": request.body,
    }
    if request.timeout is not None:
        call["timeout"] = request.timeout
    return call


def _response(answer: httpx.Response) -> Response:
    return Response(answer.status_code, answer.headers, answer.content)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what the network says into our own errors."""
    import httpx

    try:
        yield
    except httpx.ConnectError as error:
        raise ServerUnreachable(
            f"no server answers at {url} ({error}); start one with 'headgate serve', or check the url"
        ) from None
    except httpx.TimeoutException:
        raise DeadlineExceeded(f"{url} has not answered in time; give it more (timeout=), or look at 'headgate status'") from None
    except httpx.TransportError as error:
        raise ServerUnreachable(f"{url} broke the connection off ({error}); whether the request was run is not known") from None
