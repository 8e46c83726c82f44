"""Bytes of a file in, what it is out."""

from typing import TypedDict

from magika import Magika


class Guess(TypedDict):
    label: str
    score: float


class Labels:
    """Magika as its authors ship it."""

    idempotent = True

    def load(self) -> None:
        """Load the model."""
        self.magika = Magika()

    def predict(self, content: bytes) -> Guess:
        """Judge one file."""
        found = self.magika.identify_bytes(content)
        return {"label": str(found.output.label), "score": found.score}
