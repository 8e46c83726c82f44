"""Texts in, vectors out: a tokenizer and an ONNX model behind one class."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).parent


class Embedder:
    """MiniLM from text; a batch is padded to its longest text."""

    idempotent = True
    batched = True

    def load(self, threads: int) -> None:
        """Load both parts."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(HERE / "minilm.onnx", options)
        self.tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(256)

    def predict(self, text: str) -> Annotated[np.ndarray, "FP32[384]"]:
        """Embed a batch of texts."""
        found: list[Any] = self.tokenizer.encode_batch(text.tolist())  # type: ignore[attr-defined]
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        tokens = {name: np.array([getattr(one, part) for one in found], dtype=np.int64) for name, part in columns.items()}
        return self.session.run(None, tokens)[0]
