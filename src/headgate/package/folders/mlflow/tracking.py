"""Bringing a model from an MLflow tracking server: ``models:/name@alias``, ``models:/name/3``, ``runs:/id/path``.

By the server's REST API alone (mlflow 3.17; docs/source/rest-api.rst, protos/service.proto), so that nothing of MLflow's own is needed
here. Artifacts come through the server (``mlflow-artifacts:``, what it does unless told otherwise) or from this machine's disk; a server
that keeps them in a bucket and does not pass them on is refused with what to do.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import httpx

from headgate.errors import InvalidRequest, NotFound, PackageError, PermissionDenied, ServerUnreachable, Unauthenticated
from headgate.package.detect import default_name
from headgate.package.folders.base import Fetched
from headgate.package.manifest import check_paths

_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))?")
_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<path>.+)")
_LOGGED = re.compile(r"m-[0-9a-f]{32}")
_API = "api/2.0/mlflow"
_ARTIFACTS = "api/2.0/mlflow-artifacts/artifacts"
_SECONDS = 60.0
"""For the server to answer, or for the next bytes of a file."""


class Location(NamedTuple):
    """Where a model's files are."""

    artifacts: str
    """MLflow's address of the folder: ``mlflow-artifacts:/0/models/m-.../artifacts``."""
    name: str
    note: str


def fetch(address: str, into: Path) -> Fetched:
    """Download the model that ``address`` names into ``into``.

    Raises `InvalidRequest` for an address or a setting that makes no sense, `NotFound`, `Unauthenticated`, `PermissionDenied`,
    `ServerUnreachable`, and `PackageError` if the files are where they cannot be had from.
    """
    with Server("MLFLOW_TRACKING_URI") as tracking:
        try:
            location = _locate(address, tracking)
            _download(location.artifacts, into, tracking)
        except (KeyError, TypeError, AttributeError) as error:
            raise PackageError(
                f"{address}: {tracking.uri} does not answer as MLflow does ({error!r}); nothing was registered. Check MLFLOW_TRACKING_URI"
            ) from error
    if not (into / "MLmodel").is_file():
        raise NotFound(f"{address}: there is no MLmodel in {location.artifacts}, so it is no model; nothing was registered")
    return Fetched(into, default_name(Path(location.name)), location.note)


class Server:
    """A tracking server, asked as MLflow's own client would: the same variables say where it is and who asks."""

    def __init__(self, *variables: str) -> None:
        variable = next((name for name in variables if os.environ.get(name)), variables[-1])
        uri = os.environ.get(variable, "")
        if urlsplit(uri).scheme not in ("http", "https"):
            got = f"it is {uri!r}" if uri else "it is not set"
            raise InvalidRequest(
                f"{variable}: expected the http(s) address of an MLflow tracking server, {got}; nothing was fetched. A folder on this "
                "machine can be named itself"
            )
        self.uri = uri.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.uri}/", timeout=_SECONDS, follow_redirects=True, verify=_verify(), **_credentials()
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what the server answers. Raises `NotFound`, `Unauthenticated`, `PermissionDenied` or `ServerUnreachable`."""
        try:
            response = self._http.get(path, params=query)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        self._check(response)
        try:
            answer = response.json()
        except ValueError as error:
            raise self._unreachable(error) from error
        if not isinstance(answer, dict):
            raise self._unreachable(TypeError("it answered something else than a JSON object"))
        return answer

    def save(self, path: str, target: Path) -> None:
        """Write a file of the server to ``target``. Raises as `get` does."""
        try:
            with self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                self._check(response)
                with open(target, "xb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _check(self, response: httpx.Response) -> None:
        if not response.is_error:
            return
        words = f"{self.uri}: {_words(response)}; nothing was registered"
        if response.status_code == 401:
            raise Unauthenticated(f"{words}. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN")
        kinds = {403: PermissionDenied, 404: NotFound, 400: InvalidRequest}
        raise kinds.get(response.status_code, ServerUnreachable)(words)

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            f"{self.uri}: no MLflow tracking server answers there ({str(error) or type(error).__name__}); nothing was registered. Check "
            "MLFLOW_TRACKING_URI, and that it runs"
        )


def _credentials() -> dict[str, Any]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"headers": {"authorization": f"Bearer {token}"}}
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return {"auth": (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))}
    return {}


def _verify() -> ssl.SSLContext | bool:
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    certificate = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    return ssl.create_default_context(cafile=certificate) if certificate else True


def _words(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"it answered {response.status_code}"


# ---- where a model is


def _locate(address: str, tracking: Server) -> Location:
    if match := _RUN.fullmatch(address):
        return _of_run(tracking, match["run"], match["path"].strip("/"), address)
    match = _MODEL.fullmatch(address)
    if match is None:
        raise InvalidRequest(f"{address}: expected models:/name@alias, models:/name/3 or runs:/id/path; nothing was fetched")
    name, alias, version = (unquote(match[key]) if match[key] else None for key in ("name", "alias", "version"))
    if name and _LOGGED.fullmatch(name) and not alias and not version:
        logged = _logged(tracking, name)
        return Location(str(logged["artifact_uri"]), str(logged.get("name") or name), address)
    if version not in (None, "latest") and not str(version).isdecimal():
        raise InvalidRequest(
            f"{address}: stages have been replaced by aliases; set one in MLflow and name it: models:/{name}@{str(version).lower()}"
        )
    with Server("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI") as registry:
        number = str(version) if version and version != "latest" else _version(registry, str(name), alias, address)
        found = registry.get(f"{_API}/model-versions/get-download-uri", {"name": str(name), "version": number})
    note = f"models:/{name}/{number}" + (f" (@{alias})" if alias else "")
    return Location(str(found.get("artifact_uri", "")), str(name), note)


def _version(registry: Server, name: str, alias: str | None, address: str) -> str:
    if alias:
        found = registry.get(f"{_API}/registered-models/alias", {"name": name, "alias": alias})
        return str(found["model_version"]["version"])
    quoted = name.replace("'", "''")
    query = {"filter": f"name='{quoted}'", "order_by": "version_number DESC", "max_results": "1"}
    newest = registry.get(f"{_API}/model-versions/search", query)
    if not newest.get("model_versions"):
        raise NotFound(f"{address}: {registry.uri} has no model {name!r}; nothing was registered")
    return str(newest["model_versions"][0]["version"])


def _logged(tracking: Server, model: str) -> dict[str, Any]:
    info: dict[str, Any] = tracking.get(f"{_API}/logged-models/{quote(model, safe='')}")["model"]["info"]
    return info


def _of_run(tracking: Server, run: str, path: str, address: str) -> Location:
    """Find a model that a run has logged: since MLflow 3 apart from the run, before among its artifacts."""
    found = tracking.get(f"{_API}/runs/get", {"run_id": run})["run"]
    for output in found.get("outputs", {}).get("model_outputs", ()):
        logged = _logged(tracking, str(output["model_id"]))
        if logged.get("name") == path:
            return Location(str(logged["artifact_uri"]), path, address)
    return Location(f"{str(found['info']['artifact_uri']).rstrip('/')}/{path}", path.rpartition("/")[2], address)


# ---- its files


def _download(artifacts: str, into: Path, tracking: Server) -> None:
    parts = urlsplit(artifacts)
    if parts.scheme == "mlflow-artifacts":
        _copy_served(unquote(parts.path).strip("/"), into, tracking)
        return
    local = Path(unquote(parts.path)) if parts.scheme in ("", "file") else None
    if local is not None and local.is_dir():
        shutil.copytree(local, into, dirs_exist_ok=True, symlinks=True)
        return
    raise PackageError(
        f"{artifacts}: the tracking server does not pass on what lies there, so it was not fetched. Start it with --serve-artifacts, or "
        "download the model (mlflow artifacts download) and name its folder"
    )


def _copy_served(root: str, into: Path, tracking: Server) -> None:
    files = list(_served_files(root, "", tracking))
    check_paths(files)
    for name in files:
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        tracking.save(f"{_ARTIFACTS}/{quote(f'{root}/{name}')}", target)


def _served_files(root: str, folder: str, tracking: Server) -> Iterator[str]:
    """Yield the files below ``root``, by their path relative to it."""
    where = f"{root}/{folder}" if folder else root
    for entry in tracking.get(_ARTIFACTS, {"path": where}).get("files", ()):
        name = str(entry["path"]).rpartition("/")[2]
        path = f"{folder}/{name}" if folder else name
        check_paths([path])
        if entry.get("is_dir"):
            yield from _served_files(root, path, tracking)
        else:
            yield path
