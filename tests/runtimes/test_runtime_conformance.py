"""Every runtime on the shelf, by every check of the shipped suite, on the real models that its sample script trains."""

from __future__ import annotations

import pytest
from runtime_samples import HERE, conformance_of, samples_of

from headgate import plugins
from headgate.testing.runtimes import CHECKS, checks_of, read_samples

RUNTIMES = plugins.names("headgate.runtimes")
# Frameworks that need not be installed here have an environment of their own; importing one takes seconds.
SHELF = [pytest.param(name, marks=pytest.mark.slow) for name in RUNTIMES]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_has_samples(runtime: str) -> None:
    assert (HERE / "samples" / f"{runtime}.py").is_file()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("runtime", SHELF)
def test_conforms(runtime: str, check) -> None:
    ran = {entry["sample"] for entry in conformance_of(runtime).get(check.__name__, ())}
    due = {sample.name for sample in read_samples(samples_of(runtime)) if check in checks_of(sample)}
    assert due
    assert ran == due
    failures = {entry["sample"]: entry["failure"] for entry in conformance_of(runtime)[check.__name__] if entry["failure"]}
    assert not failures
