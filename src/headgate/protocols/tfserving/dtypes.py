"""TensorFlow's names for datatypes, and where a ``TensorProto`` keeps their elements."""

from __future__ import annotations

from typing import NamedTuple


class TFType(NamedTuple):
    """One datatype, as TensorFlow calls it."""

    dtype: str
    """The Open Inference Protocol's name."""
    number: int
    """Of ``tensorflow.DataType``."""
    name: str
    """There: ``DT_FLOAT``."""
    word: str
    """In error texts: ``float``."""
    field: str
    """Of ``TensorProto``, with its elements."""


TYPES: dict[str, TFType] = {
    found.dtype: found
    for found in (
        TFType("FP32", 1, "DT_FLOAT", "float", "float_val"),
        TFType("FP64", 2, "DT_DOUBLE", "double", "double_val"),
        TFType("INT32", 3, "DT_INT32", "int32", "int_val"),
        TFType("UINT8", 4, "DT_UINT8", "uint8", "int_val"),
        TFType("INT16", 5, "DT_INT16", "int16", "int_val"),
        TFType("INT8", 6, "DT_INT8", "int8", "int_val"),
        TFType("BYTES", 7, "DT_STRING", "string", "string_val"),
        TFType("INT64", 9, "DT_INT64", "int64", "int64_val"),
        TFType("BOOL", 10, "DT_BOOL", "bool", "bool_val"),
        TFType("BF16", 14, "DT_BFLOAT16", "bfloat16", "half_val"),
        TFType("UINT16", 17, "DT_UINT16", "uint16", "int_val"),
        TFType("FP16", 19, "DT_HALF", "half", "half_val"),
        TFType("UINT32", 22, "DT_UINT32", "uint32", "uint32_val"),
        TFType("UINT64", 23, "DT_UINT64", "uint64", "uint64_val"),
    )
}
"""By the Open Inference Protocol's name: every datatype there is."""
BY_NUMBER: dict[int, TFType] = {found.number: found for found in TYPES.values()}
