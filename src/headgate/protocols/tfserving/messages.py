"""The message classes of TensorFlow and TensorFlow Serving, in a descriptor pool of their own."""

from __future__ import annotations

from headgate.protocols.base.grpc import Messages

MESSAGES = Messages(__package__, "messages.binpb")
TENSOR = MESSAGES.message("tensorflow.TensorProto")
EXAMPLE = MESSAGES.message("tensorflow.Example")
SPEC = MESSAGES.message("tensorflow.serving.ModelSpec")
PREDICT_REQUEST = MESSAGES.message("tensorflow.serving.PredictRequest")
CLASSIFICATION = MESSAGES.message("tensorflow.serving.ClassificationResponse")
REGRESSION = MESSAGES.message("tensorflow.serving.RegressionResponse")
METADATA = MESSAGES.message("tensorflow.serving.GetModelMetadataResponse")
SIGNATURES = MESSAGES.message("tensorflow.serving.SignatureDefMap")
STATUS = MESSAGES.message("tensorflow.serving.GetModelStatusResponse")
RELOADED = MESSAGES.message("tensorflow.serving.ReloadConfigResponse")
