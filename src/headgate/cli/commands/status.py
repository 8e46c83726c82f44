"""Show what is deployed and how it is: one screen, with the reason where something is not as it should be."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from headgate.cli import rollout_view
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
    rows = [row for deployment in deployments for row in (*_rows(deployment), *_also_rows(deployment))]
    reasons = [f"{deployment['name']}: {reason}" for deployment in deployments for reason in _reasons(deployment)]
    columns = ("DEPLOYMENT", "MODEL", "STATE", "REPLICAS", "REQUESTS", "FAILED", "QUEUED", "URL")
    return "\n".join([*_server(status), table(columns, rows), *reasons])


def _server(status: dict[str, Any]) -> list[str]:
    server = status.get("server") or {}
    return [f"inference {server['inference_url']}"] if server.get("inference_url") else []


def _reasons(deployment: dict[str, Any]) -> Iterator[str]:
    if deployment["reason"]:
        yield deployment["reason"]
    if deployment.get("rollout"):
        yield rollout_view.short(deployment["rollout"])


def _rows(deployment: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    """The deployment but for what ``also`` names: with the version that serves, or, as long as none does, the one asked for; during a
    rollout its two versions with their shares.
    """
    rollout = deployment.get("rollout")
    also = {entry["revision"] for entry in deployment.get("also", ())} - {deployment.get("serving")}
    arms = [rollout[arm]["revision"] for arm in ("candidate", "baseline")] if rollout else []
    others = [revision for revision in deployment["revisions"] if revision["name"] in set(arms) - {deployment["serving"]}]
    revisions = [revision for revision in deployment["revisions"] if revision["name"] not in also and revision not in others]
    serving = [revision for revision in revisions if revision["name"] == deployment.get("serving")]
    version = serving[0]["version"] if serving else deployment["version"]
    model = f"{_model(deployment)}@{version}" if version else deployment["model"]
    share = f" ({rollout_view.percent(serving[0]['share'])})" if rollout and serving else ""
    yield f"{deployment['name']}{share}", model, deployment["state"], *_counts(revisions), deployment["url"]
    for revision in others:
        name = f"{deployment['name']} ({rollout_view.percent(revision['share'])})"
        url = f"{deployment['url']}/versions/{revision['version']}"
        yield name, f"{_model(deployment)}@{revision['version']}", revision["state"], *_counts([revision]), url


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
