"""MLflow model folders, on disk or on a tracking server."""

from __future__ import annotations

from headgate.package.folders.mlflow.format import MlflowFolder

__all__ = ["MlflowFolder"]
