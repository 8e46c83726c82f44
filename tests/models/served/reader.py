"""An image in, the text on it out: three models and what lies between them, behind one class."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError
from rapidocr_onnxruntime import RapidOCR

from headgate.runtimes.base import InvalidInput


class Reader:
    """RapidOCR from PNG, JPEG, ... to lines."""

    idempotent = True

    def load(self, threads: int) -> None:
        """Load the three models."""
        self.read = RapidOCR(intra_op_num_threads=threads)

    def predict(self, image: bytes) -> str:
        """Return the lines, from top to bottom. Raises `InvalidInput` for what is no image."""
        try:
            pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))[:, :, ::-1]
        except UnidentifiedImageError as error:
            raise InvalidInput("'image' is not an image that can be read") from error
        found, _ = self.read(np.ascontiguousarray(pixels))
        return "\n".join(line for _, line, _ in found or [])
