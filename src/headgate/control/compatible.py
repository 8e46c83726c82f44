"""Whether clients of one revision can go on with another: a pure function of two signatures, as the routing table carries them.

A request that was right stays right, and an answer is read as before: every input and output of the old one is there, of the same dtype
and shape; what is new among the inputs may be left out. Further outputs are no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from headgate.control.model import Revision
from headgate.control.packages import Packages
from headgate.control.rollout import Rollout, StepKind
from headgate.errors import HeadgateError


class _Tensor(msgspec.Struct):
    name: str
    dtype: str
    shape: tuple[int, ...]
    optional: bool = False
    content: str = ""


class _Signature(msgspec.Struct):
    """The part of a `headgate.package.signature.Signature` that is compared; control reads no package."""

    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    batched: bool = False
    stateful: bool = False
    streams: bool = False


_KINDS = {"batched": "has a batch axis", "stateful": "keeps state between requests", "streams": "answers in parts"}


def between(rollout: Rollout | None, revisions: Iterable[Revision], packages: Packages) -> str:
    """Return what clients of a rollout's baseline would stumble over with its candidate, as long as that gets nothing; else nothing."""
    if rollout is None or rollout.ended or rollout.present.kind not in (StepKind.START, StepKind.VALIDATE):
        return ""
    digests = {revision.name: revision.target.digest for revision in revisions}
    if not {rollout.baseline, rollout.candidate} <= digests.keys():
        return ""
    try:
        old, new = (packages.facts(digests[name]).signature for name in (rollout.baseline, rollout.candidate))
        return incompatible(old, new)
    except (HeadgateError, msgspec.MsgspecError):
        return ""  # a package that is not there, or damaged: that is said elsewhere


def incompatible(old: bytes, new: bytes) -> str:
    """Return what a client of ``old`` would stumble over with ``new``, both signatures as JSON; empty if there is nothing.

    Raises `msgspec.ValidationError` or `msgspec.DecodeError` for what is no signature.
    """
    before, after = (msgspec.json.decode(data, type=_Signature) for data in (old, new))
    for field, words in _KINDS.items():
        if getattr(before, field) != getattr(after, field):
            which = "only the new version" if getattr(after, field) else "only the old version"
            return f"{which} {words}"
    return _inputs(before, after) or _tensors("output", before.outputs, after.outputs)


def _inputs(before: _Signature, after: _Signature) -> str:
    known = {tensor.name: tensor for tensor in before.inputs}
    for tensor in after.inputs:
        old = known.get(tensor.name)
        if not tensor.optional and (old is None or old.optional):
            how = "new and not optional" if old is None else "not optional any more"
            return f"input {tensor.name!r} is {how}"
    return _tensors("input", before.inputs, after.inputs)


def _tensors(what: str, before: tuple[_Tensor, ...], after: tuple[_Tensor, ...]) -> str:
    there = {tensor.name: tensor for tensor in after}
    for old in before:
        new = there.get(old.name)
        if new is None:
            return f"{what} {old.name!r} is gone"
        for field in ("dtype", "content"):
            one, other = getattr(old, field), getattr(new, field)
            if one != other:
                return f"{what} {old.name!r} changes from {one or 'text'} to {other or 'text'}"
        if not _fits(old.shape, new.shape):
            return f"{what} {old.name!r} changes its shape from {_shown(old.shape)} to {_shown(new.shape)}"
    return ""


def _fits(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether what has the shape ``old`` may have the shape ``new``: a side that varies takes any size."""
    return len(old) == len(new) and all(two in (-1, one) for one, two in zip(old, new, strict=True))


def _shown(shape: tuple[int, ...]) -> Any:
    return list(shape)
