"""Trusses: the class of Baseten's model server, with ``load``, ``preprocess``, ``predict`` and ``postprocess``.

What it is called with is read from ``truss.json``, which packaging writes from config.yaml. One request is one JSON value, and so is its
answer: each travels as one element of a BYTES tensor. In a request that was binary (parameter ``binary``), arrays, dates and the like are
objects that say so, ``{"__ndarray__": {"dtype", "shape", "base64"}}`` and ``{"__dt_datetime_iso__": true, "data": ...}``, both ways; in one
that was JSON, what the model returns is written as Truss's own server writes it.

A predict that yields (a generator or an asynchronous one; or one that is hinted to return an iterator) answers in parts: each is text or
bytes, one element of a BYTES tensor. It is called for one request at a time, and closed where it yields once nobody waits for more.

Source: truss 0.18 (templates/server/model_wrapper.py, templates/shared/serialization.py and secrets_resolver.py).
"""

from __future__ import annotations

from headgate.runtimes.truss.runtime import TrussRuntime

__all__ = ["TrussRuntime"]
