"""A digit classifier exported and scripted, a model of token ids with two lengths, one with a largest batch, and a pickled module."""

import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.export import Dim, export, save

from headgate.testing.runtimes import write_sample


class Digits(nn.Module):
    """Convolutions over 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))

    def forward(self, image):
        return torch.softmax(self.body(image), dim=-1)


class Tokens(nn.Module):
    """Mean of embeddings of variable length, and its score."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, 6), nn.Linear(6, 1)

    def forward(self, ids, mask):
        weights = mask.unsqueeze(-1).to(torch.float32)
        mean = (self.table(ids) * weights).sum(1) / weights.sum(1).clamp(min=1)
        return {"embedding": mean, "score": self.head(mean).squeeze(-1)}


def _write(folder, name, path, inputs, expected, takes, gives, **rest):
    def specs(named):
        return [{"name": key, "dtype": dtype, "shape": shape} for key, dtype, shape in named]

    signature = {"inputs": specs(takes), "outputs": specs(gives), "batched": True, "parameters": False}
    write_sample(folder, name, runtime="torch", path=path, inputs=inputs, expected=expected, signature=signature, **rest)


def _trained() -> tuple[Digits, np.ndarray]:
    torch.manual_seed(0)
    data = load_digits()
    images, labels = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(data.target)
    model, loss = Digits(), nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss(torch.log(model(images) + 1e-9), labels).backward()
        optimizer.step()
    assert (model(images).argmax(1) == labels).float().mean() > 0.9
    return model.eval(), images[:11].numpy()


def _digits(folder: Path) -> None:
    model, images = _trained()
    expected = {"output": model(torch.tensor(images)).detach().numpy()}
    gives, inputs, takes = [("output", "FP32", [-1, 10])], {"image": images}, [("image", "FP32", [-1, 1, 8, 8])]
    save(export(model, (torch.tensor(images),), dynamic_shapes={"image": {0: Dim("batch")}}), folder / "digits.pt2")
    _write(folder, "digits", "digits.pt2", inputs, expected, takes, gives)
    # At most 4 rows at a time: a larger batch is run in parts.
    save(export(model, (torch.tensor(images[:3]),), dynamic_shapes={"image": {0: Dim("few", max=4)}}), folder / "few.pt2")
    _write(folder, "few", "few.pt2", inputs, expected, takes, gives)
    torch.jit.script(model).save(str(folder / "script.pt"))
    (folder / "images.json").write_text(json.dumps(images[:2].tolist()))
    _write(folder, "script", "script.pt", inputs, expected, takes, gives, example="images.json")


def _tokens(folder: Path) -> None:
    torch.manual_seed(1)
    model = Tokens().eval()
    random = np.random.default_rng(0)
    ids, mask = random.integers(0, 50, (7, 5)), (random.random((7, 5)) > 0.3).astype(np.int64)
    arguments = (torch.tensor(ids), torch.tensor(mask))
    batch, length = Dim("batch"), Dim("length")
    shapes = {"ids": {0: batch, 1: length}, "mask": {0: batch, 1: length}}
    save(export(model, arguments, dynamic_shapes=shapes), folder / "tokens.pt2")
    expected = {name: value.detach().numpy() for name, value in model(*arguments).items()}
    takes = [("ids", "INT64", [-1, -1]), ("mask", "INT64", [-1, -1])]
    gives = [("embedding", "FP32", [-1, 6]), ("score", "FP32", [-1])]
    _write(folder, "tokens", "tokens.pt2", {"ids": ids, "mask": mask}, expected, takes, gives)


def _pickled(folder: Path) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    torch.save(model, folder / "pickled.pt")
    torch.save(model.state_dict(), folder / "weights.pt")
    rows = np.random.default_rng(0).random((6, 3), dtype=np.float32)
    (folder / "rows.json").write_text(
        json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]})
    )
    expected = {"output": model(torch.tensor(rows)).detach().numpy()}
    takes, gives = [("input", "FP32", [-1, 3])], [("output", "FP32", [-1, 2])]
    _write(folder, "pickled", "pickled.pt", {"input": rows}, expected, takes, gives, example="rows.json")


def build(folder: Path) -> None:
    for make in (_digits, _tokens, _pickled):
        make(folder)
