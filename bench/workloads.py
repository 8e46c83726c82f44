"""What is measured: a model, a format of bodies, and a number of connections. A further workload is a further line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One load on a server."""

    model: str
    format: str
    connections: int
    streams: int = 1
    """Calls at a time on each connection; only gRPC has more than one."""

    @property
    def name(self) -> str:
        many = f"x{self.streams}" if self.streams > 1 else ""
        return f"{self.model}-{self.format}-{self.connections}{many}"

    @property
    def title(self) -> str:
        many = "connection" if self.connections == 1 else "connections"
        streams = f" of {self.streams} streams" if self.streams > 1 else ""
        return f"{WORDS[self.model]}, {self.format}, {self.connections} {many}{streams}"


WORDS = {
    "mlp": "MLP, one row of 30 floats",
    "ranker": "200 candidates of 64 floats",
    "cnn": "ResNet-18, one image (602 KB)",
    "image": "the mean of one image (602 KB)",
}

WORKLOADS = (
    Workload("mlp", "json", 1),
    Workload("mlp", "json", 16),
    Workload("mlp", "json", 64),
    Workload("mlp", "binary", 1),
    Workload("mlp", "binary", 16),
    Workload("mlp", "binary", 64),
    Workload("mlp", "grpc", 1, 64),
    Workload("mlp", "grpc", 64),
    Workload("mlp", "grpc", 1),
    Workload("ranker", "json", 16),
    Workload("ranker", "binary", 16),
    Workload("cnn", "binary", 4),
    Workload("image", "binary", 4),
    Workload("image", "grpc", 4),
)
