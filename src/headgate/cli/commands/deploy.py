"""Deploy a version of a model (model, model@3, model@alias), or a model file, which is registered first. It is checked in a replica of
its own before requests go to it; the version that served before is then drained. With a canary this returns as soon as the new version
has its first share of the traffic. Settings that are not given stay as they are.
"""

from __future__ import annotations

import argparse

from headgate.cli import flags
from headgate.cli.arguments import add_connection, add_output, add_packaging, add_waiting
from headgate.cli.catalog import RemoteCatalog
from headgate.cli.connection import connect
from headgate.cli.output import emit, note
from headgate.cli.publish import found, publish
from headgate.cli.rollout_view import deployed
from headgate.cli.specs import apply, overlay
from headgate.cli.targets import has_ending, looks_like_path, missing
from headgate.cli.watching import settle
from headgate.errors import InvalidRequest, NotFound


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "what", metavar="REF|FILE", help="model, model@3, model@alias; or a file, a folder, file.py:Class, models:/..."
    )
    parser.add_argument("--name", help="the deployment (default: the model's name)")
    add_waiting(parser)
    flags.add_flags(parser)
    add_packaging(parser)
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Deploy, and wait until the new revision serves (or has its first share) and what ``--also`` names is ready."""
    api = connect(args)
    reference, settings = args.what, flags.settings(args)
    if looks_like_path(args.what):
        with found(args.what, args) as models:
            if len(models) > 1:
                raise InvalidRequest(
                    f"{args.what}: holds {len(models)} models ({', '.join(model.name for model in models)}), and this deploys one; "
                    "'headgate push' registers them all, then deploy each by its name"
                )
            published = publish(RemoteCatalog(api), models[0], args)[-1]
        reference, settings = published.reference, overlay(published.settings, settings)
        note(f"deploying {reference}")
    name = args.name or reference.partition("@")[0]
    try:
        status = apply(api, name, reference, settings)
    except NotFound as error:
        if reference != args.what or not has_ending(reference):
            raise
        raise NotFound(f"{missing(reference)} Nor is it a model: {error}") from None
    status = settle(api, status, args)
    if status["advice"]:
        note(status["advice"])
    emit(args.output, status, lambda: deployed(status))
    return 0
