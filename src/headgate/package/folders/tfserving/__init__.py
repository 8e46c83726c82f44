"""What TensorFlow Serving serves: folders of numbered SavedModels, and the file that lists several of them."""

from __future__ import annotations

from headgate.package.folders.tfserving.format import TensorFlowServing

__all__ = ["TensorFlowServing"]
