"""Show what is deployed and how it is: one screen, with the reason where something is not as it should be."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from headgate.cli.api import segment
from headgate.cli.arguments import add_connection, add_output
from headgate.cli.connection import connect
from headgate.cli.output import emit, table

_HEALTHY = ("ready", "running")


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
    rows = [_row(deployment) for deployment in deployments]
    columns = ("DEPLOYMENT", "MODEL", "STATE", "REPLICAS", "REQUESTS", "FAILED", "QUEUED", "URL")
    return "\n".join([*_server(status), table(columns, rows), *_reasons(deployments)])


def _server(status: dict[str, Any]) -> list[str]:
    server = status.get("server") or {}
    return [f"inference {server['inference_url']}"] if server.get("inference_url") else []


def _row(deployment: dict[str, Any]) -> tuple[object, ...]:
    revisions = deployment["revisions"]
    replicas = [replica for revision in revisions for replica in revision["replicas"]]
    up = sum(replica["state"] in _HEALTHY for replica in replicas)
    version = deployment.get("version")
    return (
        deployment["name"],
        f"{deployment['model'].partition('@')[0]}@{version}" if version else deployment["model"],
        deployment["state"],
        f"{up}/{len(replicas)}",
        sum(revision.get("requests", 0) for revision in revisions),
        sum(revision.get("failures", 0) for revision in revisions),
        sum(revision.get("queued_rows", 0) for revision in revisions),
        deployment.get("url"),
    )


def _reasons(deployments: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for everything that is not as it should be, with the cause."""
    for deployment in deployments:
        if deployment.get("reason"):
            yield f"{deployment['name']}: {deployment['reason']}"
        for revision in deployment["revisions"]:
            if revision.get("reason") and revision["reason"] != deployment.get("reason"):
                yield f"{revision['name']}: {revision['reason']}"
            for replica in revision["replicas"]:
                cause = replica.get("reason") or replica.get("exit")
                if replica["state"] not in _HEALTHY and cause:
                    yield f"{replica['id']}: {cause}"
