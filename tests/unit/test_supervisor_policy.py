"""What the supervisor decides, without a process."""

from __future__ import annotations

import signal

from headgate.supervision.policy import LONGEST_DELAY, STEADY, differences, exit_in_words, moved, next_delay


def test_delays_double_up_to_half_a_minute() -> None:
    """A process that falls at once waits 0.1 s, then twice as long each time, and never more than 30 s."""
    delays = [0.0]
    for _ in range(12):
        delays.append(next_delay(delays[-1], lived=0.0))
    assert delays[1:6] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == delays[-2] == LONGEST_DELAY == 30.0
    assert delays == sorted(delays)


def test_a_minute_of_life_forgives() -> None:
    """After 60 s of life the next end counts as the first; after less it does not."""
    assert next_delay(30.0, lived=STEADY) == 0.1
    assert next_delay(3.2, lived=STEADY - 0.001) == 6.4


def test_an_end_is_said_in_words() -> None:
    """Exit codes, signals with and without a name, and an end that only another process could know."""
    assert exit_in_words(0) == "exit code 0"
    assert exit_in_words(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert exit_in_words(-64 - 1) == "killed by signal 65"
    assert exit_in_words(None) == "exit code unknown"


def test_the_end_by_its_own_timer_names_the_settings() -> None:
    """SIGALRM is how a replica ends itself: who reads of it must know what to set, and it is still told as the signal it was."""
    said = exit_in_words(-signal.SIGALRM)
    assert said.startswith("killed by SIGALRM")
    assert "batch_timeout" in said and "load_timeout" in said


def test_only_memory_that_moves_is_told() -> None:
    """More than 1 % up or down is a change; 1 % is not."""
    assert moved(1000, 1011) and moved(1000, 989) and moved(0, 1)
    assert not moved(1000, 1010) and not moved(1000, 990) and not moved(0, 0)


def test_settings_are_compared_without_the_socket() -> None:
    """The descriptor's number differs between servers and is no setting; a key that one side lacks is one."""
    before = {"listener": 3, "limits": {"body": 1}, "hosts": []}
    assert differences(before, {**before, "listener": 9}) == []
    assert differences(before, {"listener": 9, "limits": {"body": 2}, "hosts": [], "new": 1}) == ["limits", "new"]
