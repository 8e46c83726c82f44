"""What Headgate's own tests stand on, for yours: fakes, a manual clock, and the conformance suites of the shelves."""

from headgate.testing.clock import ManualClock

__all__ = ["ManualClock"]
