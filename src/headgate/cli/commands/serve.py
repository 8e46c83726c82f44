"""Serve models in the foreground, with docs and metrics. Each TARGET is a model file, a folder (another tool's too), file.py:Class, or an
address such as models:/name@alias; it is registered and deployed under its name, beside what the home serves already. Ctrl-C drains and
ends.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys

from headgate.cli import flags
from headgate.cli.arguments import add_home, add_packaging, home_of
from headgate.cli.targets import check
from headgate.errors import InvalidRequest


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("targets", metavar="TARGET", nargs="*", help="what to serve (default: what the home has deployed)")
    add_home(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address of the inference port (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="inference port; 0 for any free one (default: 8080)")
    parser.add_argument(
        "--control-host", default="127.0.0.1", metavar="HOST", help="address of the control API (default: 127.0.0.1)"
    )
    parser.add_argument("--control-port", type=int, default=8081, metavar="N", help="port of the control API (default: 8081)")
    parser.add_argument("--name", help="name of the model and its deployment (default: the file's)")
    parser.add_argument(
        "--drain-delay",
        type=float,
        metavar="S",
        help="seconds between 'not ready' and the end of listening (default: 5; 0 on a terminal)",
    )
    _add_security(parser)
    parser.add_argument(
        "--limit", type=flags.limit, action="append", default=[], metavar="NAME=N",
        help=f"a limit of the inference port, such as json_bytes=8MiB; repeatable ({', '.join(flags.LIMITS)})",
    )  # fmt: skip
    parser.add_argument(
        "--default-deployment", type=flags.deployment, metavar="NAME",
        help="whom paths that name no model mean (/invocations, /ping); the home remembers it, '' forgets it (default: the only one)",
    )  # fmt: skip
    parser.add_argument(
        "--model-control", choices=("none", "explicit"), metavar="MODE",
        help="explicit: clients with an admin key may load and unload registered models; the home remembers it (none or explicit; "
        "default: none)",
    )  # fmt: skip
    parser.add_argument("--access-log", action="store_true", help="write a line for every request into the gateway's log")
    flags.add_flags(parser)
    add_packaging(parser)


def _add_security(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("security")
    group.add_argument("--tls-cert", metavar="FILE", help="certificate (PEM) of both ports")
    group.add_argument("--tls-key", metavar="FILE", help="its key")
    group.add_argument("--insecure", action="store_true", help="listen beyond this machine without keys and TLS")
    group.add_argument("--allow-host", metavar="HOST", action="append", default=[], help="further name of this server; repeatable")
    group.add_argument(
        "--hook-allow", type=flags.host, metavar="HOST[:PORT]", action="append", default=[],
        help="host that hooks may call although it is not of the internet; repeatable",
    )  # fmt: skip
    group.add_argument("--hook-commands", action="store_true", help="let hooks of deployments run commands on this machine")


def run(args: argparse.Namespace) -> int:
    """Become the supervisor; what was named is deployed by a child."""
    if args.name and len(args.targets) != 1:
        raise InvalidRequest(
            f"--name: names one model, but there are {len(args.targets)} targets; leave it out, or serve that one alone"
        )
    for target in args.targets:
        check(target)
    # Only this process outlives its command line, so only it is kept free of everything the others need.
    from headgate.supervisor import ServeOptions, run

    return run(
        ServeOptions(
            home=home_of(args).path,
            host=args.host,
            port=args.port,
            control_host=args.control_host,
            control_port=args.control_port,
            tls_cert=args.tls_cert,
            tls_key=args.tls_key,
            hosts=args.allow_host,
            default_deployment=args.default_deployment,
            model_control=args.model_control,
            hook_allow=args.hook_allow,
            hook_commands=args.hook_commands,
            require_key=not args.insecure and not (_is_loopback(args.host) and _is_loopback(args.control_host)),
            insecure=args.insecure,
            limits=dict(args.limit),
            access_log=args.access_log,
            drain_delay=_drain_delay(args),
            deploy_argv=_deploy_argv(args),
            end_on_deploy_failure=True,
        )
    )


def _drain_delay(args: argparse.Namespace) -> float:
    if args.drain_delay is not None:
        return float(args.drain_delay)
    return 0.0 if sys.stdin.isatty() else 5.0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _deploy_argv(args: argparse.Namespace) -> list[str]:
    """Return the command that deploys on behalf of this one."""
    words = [sys.executable, "-P", "-m", "headgate.cli.main", "up", "--home", str(home_of(args).path), *args.targets]
    given = {
        "--name": args.name,
        "--example": args.example,
        "--requirements": args.requirements,
        "--ca": args.tls_cert,
    }
    for flag, value in given.items():
        words += [flag, value] if value is not None else []
    for path in args.include:
        words += ["--include", path]
    words += ["--trust-pickle"] if args.trust_pickle else []
    words += ["--relock"] if args.relock else []
    return [*words, *flags.argv(args)]
