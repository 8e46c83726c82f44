"""The deployments of the server that speaks all dialects of ``/v1``."""

from __future__ import annotations

from serving import Served

DIALECTS = (
    Served("plain", "Flower"),
    Served("people", "People", v1="kserve", max_rows=8),
    Served("flower", "Flower", v1="kserve", max_rows=8),
    Served("line", "Line", v1="kserve"),
    Served("odd", "Special", v1="kserve"),
    Served("whole", "Scalar", v1="kserve"),
    Served("fails", "Gate", v1="kserve"),
    Served("asked", "Asked", v1="kserve"),
    Served("blob", "Blob", v1="kserve", content={"data": "binary", "output": "binary"}),
    Served("document", "Anything", v1="kserve", content={"model_input": "json", "output": "json"}),
    Served("records", "Flower", v1="kserve", answers="records"),
    Served("columns", "People", v1="kserve", answers="columns"),
    Served("anything", "Anything", v1="truss", content={"model_input": "json", "output": "json"}),
    Served("mixed", "Mixed", v1="truss", max_rows=8),
    Served("broken", "Gate", v1="truss"),
    Served("blobs", "Blob", v1="truss", content={"data": "binary", "output": "binary"}),
)
ABSENT = (Served("no-kserve", "Flower", v1="kserve"), Served("no-truss", "Flower", v1="truss"))
