"""Points 14 to 17 of the TensorFlow Serving checklist: the state of versions, and metadata."""

from __future__ import annotations

from serving import Server
from tfserving_client import text_of

FINE = {"error_code": "OK", "error_message": ""}


def available(*versions: int) -> dict[str, object]:
    """Return the state of versions that would all be computed now."""
    return {"model_version_status": [{"version": str(one), "state": "AVAILABLE", "status": FINE} for one in versions]}


def test_p14_the_state_of_versions(served: Server) -> None:
    """All versions that can be asked for, ascending, numbers as strings; or the one that is named, by number or by label.

    Versions that have ended or failed are not there: what a gateway serves is what it knows. The test of the gRPC service shows the
    state of one without a replica.
    """
    assert served.get("/v1/models/two").json == available(1, 2)
    assert served.get("/v1/models/two/versions/2").json == available(2)
    assert served.get("/v1/models/two/labels/before").json == available(1)


def test_p15_an_unknown_model_or_version_has_no_state(served: Server) -> None:
    """404 in words of its own."""
    assert text_of(served.get("/v1/models/foo"), 404).startswith("Could not find any versions of model foo")
    assert text_of(served.get("/v1/models/two/versions/9"), 404).startswith("Could not find version 9 of model two")
    assert text_of(served.get("/v1/models/foo/versions/9"), 404).startswith("Could not find version 9 of model foo")


def test_p16_names_are_in_snake_case_and_defaults_are_written_out(served: Server) -> None:
    """``model_version_status``, not ``modelVersionStatus``; an empty error_message is there."""
    found = served.get("/v1/models/half").json
    assert found["model_version_status"][0]["status"] == FINE


def test_p17_metadata(served: Server) -> None:
    """Name, version and signature: with ``signature_def`` twice, sizes as strings, -1 for what varies."""
    found = served.get("/v1/models/sum/metadata").json
    tensor = {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "16", "name": ""}], "unknown_rank": False},
    }
    assert found == {
        "model_spec": {"name": "sum", "signature_name": "", "version": "1"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": {
                        "inputs": {name: {**tensor, "name": f"{name}:0"} for name in ("a", "b")},
                        "outputs": {name: {**tensor, "name": f"{name}:0"} for name in ("sum", "difference")},
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    }
                }
            }
        },
    }


def test_p17_metadata_of_scalars_and_of_other_methods(served: Server) -> None:
    """A scalar has a shape without dimensions; a signature made for classify or regress says so."""

    def signature(model: str) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
        found = served.get(f"/v1/models/{model}/metadata").json["metadata"]["signature_def"]["signature_def"]["serving_default"]
        return dict(found)

    scalar = signature("scalar")["inputs"]["x"]
    assert scalar["tensor_shape"] == {"dim": [], "unknown_rank": False}
    assert scalar["dtype"] == "DT_DOUBLE"
    methods = {model: signature(model)["method_name"] for model in ("classifier", "scores", "regressor", "text")}
    assert methods == {
        "classifier": "tensorflow/serving/classify",
        "scores": "tensorflow/serving/classify",
        "regressor": "tensorflow/serving/regress",
        "text": "tensorflow/serving/predict",
    }


def test_p17_metadata_names_the_version_it_is_of(served: Server) -> None:
    """Without one, that which serves the traffic."""
    for place, version in (("", "2"), ("/versions/1", "1"), ("/labels/before", "1"), ("/labels/champion", "2")):
        assert served.get(f"/v1/models/two{place}/metadata").json["model_spec"]["version"] == version
