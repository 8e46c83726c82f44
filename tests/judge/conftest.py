"""Draws that are the same every time."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """The same draws every time."""
    return np.random.default_rng(20_240_601)
