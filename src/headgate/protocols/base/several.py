"""Several signatures of one model: a plan for each, and requests whose keys say which one they are for.

Requests for different signatures have different keys, so that no batch holds both. A model with one signature has nothing of this: its
plan is a plain `Plan`, and the keys of its requests are what they are.
"""

from __future__ import annotations

from typing import NamedTuple

from headgate.package.signature import Signature
from headgate.protocols.base.exchange import InferRequest
from headgate.protocols.base.plan import Plan


class Keyed(NamedTuple):
    """The key of a request for one of several signatures."""

    signature: int
    """Its number: 0 is the one that is meant where nobody says which."""
    rest: object
    """The key that the request has among those for the same signature."""


class Alone(NamedTuple):
    """The same where the signature has no batch axis: the request shares its batch with no other."""

    signature: int


class OneOfSeveral(Plan):
    """A plan that says in the key of every request which signature it is for."""

    __slots__ = ()

    def finish(self, request: InferRequest) -> InferRequest:
        """As `Plan.finish`."""
        super().finish(request)
        request.key = Keyed(self.number, request.key) if self.batched else Alone(self.number)
        return request


def plan_of(model: str, signature: Signature, *, max_rows: int, splittable: bool) -> Plan:
    """Return the plan of a model; of one with several signatures that of the first, with all of them as `Plan.each`."""
    if not signature.further:
        return Plan(model, signature, max_rows=max_rows, splittable=splittable)
    plans = [OneOfSeveral(model, each, max_rows=max_rows, splittable=splittable) for each in signature.each]
    for number, plan in enumerate(plans):
        plan.number = number
    plans[0].each = plans
    return plans[0]


def plan_for(request: InferRequest, plan: Plan) -> Plan:
    """Return the plan by which ``request`` was decoded; ``plan`` is that of its model."""
    key = request.key
    return plan.each[key.signature] if plan.each and isinstance(key, Keyed | Alone) else plan
