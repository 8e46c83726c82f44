"""Which versions of a deployment there are and whether they are available, as both transports tell it."""

from __future__ import annotations

from typing import NamedTuple

from headgate.errors import InvalidRequest, NotFound, UnknownModel
from headgate.protocols.base import Address, Catalogue
from headgate.protocols.tfserving.words import LARGEST_VERSION, bad_version, is_number, unknown_label, worded


class State(NamedTuple):
    """One version."""

    version: int
    available: bool

    @property
    def name(self) -> str:
        """``AVAILABLE``, or ``LOADING`` while no replica of it answers."""
        return "AVAILABLE" if self.available else "LOADING"


def check_label(label: str) -> None:
    """Refuse a label that is written as a number: aliases never are. Raises `InvalidRequest`."""
    if is_number(label):
        raise unknown_label(label, "labels are aliases, and an alias is no number; ask for a version as a version")


def states_of(catalogue: Catalogue, address: Address) -> list[State]:
    """Return the state of the version asked for, or of all. Raises `NotFound` or `InvalidRequest` in TensorFlow Serving's words."""
    name, version = address
    if version is not None and is_number(version) and int(version) > LARGEST_VERSION:
        raise bad_version(version)
    try:
        deployment = catalogue.deployment(name)
        if version is not None:
            return [State(deployment.number(version), deployment.version_ready(version))]
        found = [State(number, deployment.version_ready(str(number))) for number in deployment.versions()]
    except UnknownModel as error:
        if version is None:
            raise NotFound(f"Could not find any versions of model {error.model[:200]} ({error})") from None
        if not is_number(version):
            raise worded(UnknownModel(str(error), error.model, version)) from None
        raise NotFound(f"Could not find version {version} of model {error.model[:200]} ({error})") from None
    if not found:
        raise NotFound(f"Could not find any versions of model {deployment.name} (none of it is there yet; retry later)")
    return found


def check_named(address: Address) -> None:
    """Refuse a gRPC request that names no model. Raises `InvalidRequest`."""
    if not address.model:
        raise InvalidRequest("ModelSpec has no name specified.")
