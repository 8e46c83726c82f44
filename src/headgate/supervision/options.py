"""What `headgate serve` asks for, checked, and the processes that follow from it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from headgate.errors import SpecError
from headgate.supervision import listeners
from headgate.supervision.processes import ProcessSpec

CONTROL, GATEWAY, DEPLOYER = "control", "gateway-0", "deployer"
"""Ids of the processes that are not replicas."""
_CONTROL_GRACE = 5.0
_GATEWAY_ROOM = 5.0
"""Seconds beyond delay and limit that the drain of a gateway may take: until the port is shut, for the last call, and to answer 503 to
what is left."""


class ServeOptions(NamedTuple):
    """One server. Ports may be 0 for any free one; durations are seconds."""

    home: str | os.PathLike[str]
    host: str = "127.0.0.1"
    port: int = 8080
    control_host: str = "127.0.0.1"
    control_port: int = 8081
    tls_cert: str | None = None
    tls_key: str | None = None
    hosts: Sequence[str] = ()
    """Names under which clients may ask for the server, besides those of this machine."""
    default_deployment: str | None = None
    """Whom paths without a name mean; None: as the home remembers; empty: nobody, from now on."""
    model_control: str | None = None
    """``explicit``: clients may load and unload models through the inference port; ``none``; None: as the home remembers, else none."""
    hook_allow: Sequence[str] = ()
    """Hosts, with or without a port, that hooks may lead to although they are not of the internet."""
    hook_commands: bool = False
    """Whether hooks of deployments may run commands on this machine."""
    require_key: bool = False
    """Whether requests need a key; handed down, whether there is one is not known here."""
    insecure: bool = False
    """Listen beyond this machine even without keys and TLS."""
    limits: Mapping[str, Any] = {}
    """Limits of the gateway, handed down."""
    access_log: bool = False
    """One line in the gateway's log for every request."""
    drain_delay: float = 5.0
    """Between readiness 503 and the end of listening, for load balancers to notice; 0 on a terminal."""
    drain_limit: float = 30.0
    """For requests that are in flight or queued."""
    deploy_argv: Sequence[str] | None = None
    """A command that is run once, with our terminal: it deploys what was named on the command line."""
    end_on_deploy_failure: bool = False
    """Whether the server ends, with the command's exit code, if that command fails."""
    gateway_argv: Sequence[str] = (sys.executable, "-P", "-m", "headgate.serving.main")
    control_argv: Sequence[str] = (sys.executable, "-P", "-m", "headgate.control.main")
    """With -P, so that a file ``json.py`` where the user happens to stand is not imported."""

    @property
    def secure(self) -> bool:
        """Whether both ports speak TLS."""
        return self.tls_cert is not None


def check(options: ServeOptions) -> tuple[listeners.Address, listeners.Address]:
    """Return the addresses of inference and control. Raises `SpecError` on what must not or cannot be served."""
    if (options.tls_cert is None) != (options.tls_key is None):
        missing = "--tls-key" if options.tls_key is None else "--tls-cert"
        raise SpecError(f"TLS needs a certificate and its key, and {missing} is not given; nothing was started")
    for option, path in (("--tls-cert", options.tls_cert), ("--tls-key", options.tls_key)):
        if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise SpecError(f"the file of {option}, {path}, is not there or cannot be read; nothing was started")
    inference = listeners.resolve(options.host, options.port, "port")
    control = listeners.resolve(options.control_host, options.control_port, "control-port")
    for option, host, address in (("--host", options.host, inference), ("--control-host", options.control_host, control)):
        guarded = options.insecure or (options.secure and options.require_key)
        if not guarded and not listeners.is_loopback(address):
            raise SpecError(
                f"{option} {host or address[1][0]} is open to other machines, which takes both keys and TLS; nothing was started. "
                "Make a key (headgate key) and give --tls-cert and --tls-key, or give --insecure where the network is trusted"
            )
    return inference, control


def server(options: ServeOptions, inference_url: str, control_url: str) -> dict[str, Any]:
    """Return what server.json says of a server at these URLs."""
    facts = {"inference_url": inference_url, "control_url": control_url, "drain_seconds": options.drain_delay + options.drain_limit}
    return facts | ({"tls_cert": os.path.abspath(options.tls_cert)} if options.tls_cert else {})


def gateway(options: ServeOptions, home: str, listener: int) -> ProcessSpec:
    """Return the gateway, which serves on the descriptor ``listener``."""
    config = _shared(options, home, listener) | {"id": GATEWAY, "limits": dict(options.limits), "access_log": options.access_log}
    config |= {"drain_delay": options.drain_delay, "drain_limit": options.drain_limit}
    grace = options.drain_delay + options.drain_limit + _GATEWAY_ROOM
    return ProcessSpec(GATEWAY, options.gateway_argv, _env(config), grace, (listener,))


def control(options: ServeOptions, home: str, listener: int, inference_url: str) -> ProcessSpec:
    """Return control, which serves its API on the descriptor ``listener``."""
    config = _shared(options, home, listener)
    config |= {"inference_url": inference_url, "default_deployment": options.default_deployment}
    config |= {"hook_allow": list(options.hook_allow), "hook_commands": options.hook_commands}
    return ProcessSpec(CONTROL, options.control_argv, _env(config), _CONTROL_GRACE, (listener,))


def _shared(options: ServeOptions, home: str, listener: int) -> dict[str, Any]:
    return {
        "home": home,
        "listener": listener,
        "tls_cert": options.tls_cert,
        "tls_key": options.tls_key,
        "hosts": list(options.hosts),
        "require_key": options.require_key,
        "model_control": options.model_control or "none",
    }


def _env(config: dict[str, Any]) -> dict[str, str]:
    return {"HEADGATE_CONFIG": json.dumps(config)}
