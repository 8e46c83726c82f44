"""Silero VAD, a model with a state: the client carries it from window to window, and gets what Silero's own wrapper gets."""

from __future__ import annotations

import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from model_assets import direct
from model_server import Server

from headgate.client import Client

RATE, WINDOW, CONTEXT = 16000, 512, 64


def sound(name: str) -> np.ndarray:
    with wave.open(str(direct("silero", "models-torch") / f"{name}.wav")) as file:
        assert file.getframerate() == RATE
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def expected(name: str) -> np.ndarray:
    return np.load(direct("silero", "models-torch") / f"{name}.npy")


def listen(client: Client, name: str) -> np.ndarray:
    """Send a recording window by window, each with the end of the one before and the state that came back."""
    samples = np.concatenate([np.zeros(CONTEXT, np.float32), sound(name)])
    state = np.zeros((2, 1, 128), np.float32)
    probabilities = []
    for at in range(0, len(samples) - CONTEXT - WINDOW + 1, WINDOW):
        window = samples[None, at : at + CONTEXT + WINDOW]
        answer = client.predict("vad", {"input": window, "state": state, "sr": np.array(RATE)})
        state = answer["stateN"]
        probabilities.append(float(answer["output"][0, 0]))
    return np.array(probabilities, dtype=np.float32)


def test_a_recording_window_by_window(server: Server) -> None:
    """Silence, something like speech, hiss: every probability is that of the direct run, and the speech is found."""
    heard = listen(server.client, "low")
    np.testing.assert_allclose(heard, expected("low"), atol=1e-5)
    assert heard[:10].max() < 0.1 and heard[20:30].max() > 0.9 and heard[-10:].max() < 0.1


def test_two_recordings_at_the_same_time(server: Server) -> None:
    """Two clients, each with a state: neither hears the other, since a model without a batch axis is run request by request."""
    before, _ = server.batches("vad")
    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(lambda name: listen(server.client, name), ("low", "high", "low", "high")))
    for name, probabilities in zip(("low", "high", "low", "high"), heard, strict=True):
        np.testing.assert_allclose(probabilities, expected(name), atol=1e-5)
    assert server.batches("vad")[0] - before == sum(map(len, heard))
