"""Show what is deployed and how it is: one screen, with the reason where something is not as it should be."""

from __future__ import annotations

import argparse
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
    rows = [_row(deployment) for deployment in deployments]
    reasons = [f"{deployment['name']}: {deployment['reason']}" for deployment in deployments if deployment["reason"]]
    columns = ("DEPLOYMENT", "MODEL", "STATE", "REPLICAS", "REQUESTS", "FAILED", "QUEUED", "URL")
    return "\n".join([*_server(status), table(columns, rows), *reasons])


def _server(status: dict[str, Any]) -> list[str]:
    server = status.get("server") or {}
    return [f"inference {server['inference_url']}"] if server.get("inference_url") else []


def _row(deployment: dict[str, Any]) -> tuple[object, ...]:
    revisions = deployment["revisions"]
    replicas = [replica for revision in revisions for replica in revision["replicas"]]
    ready = sum(replica["state"] == "ready" for replica in replicas)
    version = deployment["version"]
    return (
        deployment["name"],
        f"{deployment['model'].partition('@')[0]}@{version}" if version else deployment["model"],
        deployment["state"],
        f"{ready}/{len(replicas)}",
        sum(revision["requests"] for revision in revisions),
        sum(revision["failures"] for revision in revisions),
        sum(revision["queued_rows"] for revision in revisions),
        deployment["url"],
    )
