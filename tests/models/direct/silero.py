"""Synthesise something that sounds like speech, and let Silero judge it with its own wrapper: ``silero.py FOLDER``.

Writes ``vad.onnx``, and of each of two recordings ``NAME.wav`` (16 kHz, 16 bit) and ``NAME.npy`` (the probability of speech in each
window of 512 samples).
"""

import shutil
import sys
import wave
from pathlib import Path

import numpy as np
import silero_vad
import torch
from scipy.signal import lfilter

RATE = 16000
WINDOW = 512
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""Formants of a, i, u and e, Hz."""


def speech(seconds, height):
    """Return vowels, one each fifth of a second: pulses of a voice of that height through the resonances of a throat."""
    time = np.arange(int(RATE * seconds)) / RATE
    pitch = height + 25 * np.sin(2 * np.pi * 2.5 * time) + 10 * np.sin(2 * np.pi * 0.7 * time)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0)
    syllables = [
        _vowel(part, VOWELS[at % len(VOWELS)]) for at, part in enumerate(np.split(pulses, range(RATE // 5, len(pulses), RATE // 5)))
    ]
    sound = np.concatenate(syllables)
    return 0.5 * sound / np.abs(sound).max()


def _vowel(pulses, formants):
    for frequency, width in zip(formants, (80, 90, 120), strict=True):
        radius = np.exp(-np.pi * width / RATE)
        pulses = lfilter([1.0], [1, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius * radius], pulses)
    return pulses * np.hanning(len(pulses))


def write(path, sound):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def read(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def main(folder):
    shutil.copyfile(Path(silero_vad.__file__).parent / "data" / "silero_vad.onnx", folder / "vad.onnx")
    silence, hiss = np.zeros(RATE // 2), 0.001 * np.random.default_rng(0).standard_normal(RATE)
    write(folder / "low.wav", np.concatenate([silence, speech(2.0, 120), hiss]))
    write(folder / "high.wav", np.concatenate([hiss, speech(1.5, 190), silence]))
    for name in ("low", "high"):
        sound, model = torch.from_numpy(read(folder / f"{name}.wav")), silero_vad.load_silero_vad(onnx=True)
        windows = [sound[at : at + WINDOW] for at in range(0, len(sound) - WINDOW + 1, WINDOW)]
        np.save(folder / f"{name}.npy", np.array([model(window, RATE).item() for window in windows], dtype=np.float32))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
