"""MLflow's scoring protocol and SageMaker's container contract."""

from __future__ import annotations

from headgate.protocols.mlflow.http import MLflow

__all__ = ["MLflow"]
