"""Show what is deployed and how it is: one screen, with the reason where something is not as it should be."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from headgate.cli.api import segment
from headgate.cli.arguments import add_connection, add_output
from headgate.cli.connection import connect
from headgate.cli.output import emit, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this deployment")
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print the state of the server, or of one deployment."""
    api = connect(args)
    if args.name:
        deployment = api.get(f"/deployments/{segment(args.name)}")
        emit(args.output, deployment, lambda: text({"deployments": [deployment]}))
        return 0
    status = api.get("/status")
    emit(args.output, status, lambda: text(status))
    return 0


def text(status: dict[str, Any]) -> str:
    """Return the status for people."""
    deployments = status["deployments"]
    if not deployments:
        return "\n".join([*_server(status), "nothing is deployed; deploy a model with: headgate deploy model.onnx"])
    rows = [row for deployment in deployments for row in (_row(deployment), *_also_rows(deployment))]
    reasons = [f"{deployment['name']}: {deployment['reason']}" for deployment in deployments if deployment["reason"]]
    columns = ("DEPLOYMENT", "MODEL", "STATE", "REPLICAS", "REQUESTS", "FAILED", "QUEUED", "URL")
    return "\n".join([*_server(status), table(columns, rows), *reasons])


def _server(status: dict[str, Any]) -> list[str]:
    server = status.get("server") or {}
    return [f"inference {server['inference_url']}"] if server.get("inference_url") else []


def _row(deployment: dict[str, Any]) -> tuple[object, ...]:
    """The deployment but for what ``also`` names: with the version that serves, or, as long as none does, the one asked for."""
    also = {entry["revision"] for entry in deployment.get("also", ())} - {deployment.get("serving")}
    revisions = [revision for revision in deployment["revisions"] if revision["name"] not in also]
    serving = [revision["version"] for revision in revisions if revision["name"] == deployment.get("serving")]
    version = serving[0] if serving else deployment["version"]
    model = f"{_model(deployment)}@{version}" if version else deployment["model"]
    return (deployment["name"], model, deployment["state"], *_counts(revisions), deployment["url"])


def _also_rows(deployment: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    for entry in deployment.get("also", ()):
        if entry["revision"] is None or entry["revision"] != deployment["serving"]:
            revisions = [revision for revision in deployment["revisions"] if revision["name"] == entry["revision"]]
            name, model = f"{deployment['name']} (also)", f"{_model(deployment)}@{entry['version']}"
            yield name, model, entry["state"], *_counts(revisions), f"{deployment['url']}/versions/{entry['version']}"


def _counts(revisions: list[dict[str, Any]]) -> tuple[object, ...]:
    replicas = [replica for revision in revisions for replica in revision["replicas"]]
    ready = sum(replica["state"] == "ready" for replica in replicas)
    sums = (sum(revision[key] for revision in revisions) for key in ("requests", "failures", "queued_rows"))
    return (f"{ready}/{len(replicas)}", *sums)


def _model(deployment: dict[str, Any]) -> str:
    return str(deployment["model"].partition("@")[0])
