"""Triton's extensions, by the numbers of the checklist, over HTTP and over gRPC."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from serving import Server, eventually, tensor
from triton_wire import HttpWire, Refused, Tensor, Wire

ROW = [0.5] * 16


def both(rows: int = 1) -> dict[str, Tensor]:
    """The inputs of ``sum``."""
    return {name: Tensor("FP32", [rows, 16], ROW * rows) for name in "ab"}


def one(value: int) -> dict[str, Tensor]:
    """The input of ``gate``."""
    return {"x": Tensor("INT64", [1, 1], [value])}


def refused(status: int, call: Any, *arguments: Any, **options: Any) -> str:
    """Return the text of the refusal that a call must end in."""
    with pytest.raises(Refused) as raised:
        call(*arguments, **options)
    assert raised.value.status == status, raised.value
    return str(raised.value)


# ---- X1, X6: repository index


def test_x1_the_index_lists_every_version_and_how_it_is(wire: Wire) -> None:
    """READY, or UNAVAILABLE with the reason; a ready one has none."""
    found = wire.index()
    assert {"name": "sum", "version": "1", "state": "READY"} in found
    assert [entry["version"] for entry in found if entry["name"] == "two"] == ["1", "2"]
    (absent,) = (entry for entry in found if entry["name"] == "absent")
    assert absent["state"] == "UNAVAILABLE" and "no replica" in absent["reason"]
    assert [entry["name"] for entry in found] == sorted(entry["name"] for entry in found)


def test_x1_only_what_is_ready(wire: Wire) -> None:
    """With ``ready`` the others are left out; without, or false, they are there."""
    names = [entry["name"] for entry in wire.index(ready=True)]
    assert "sum" in names and "absent" not in names
    assert wire.index(ready=False) == wire.index()


@pytest.mark.parametrize("body", [b'{"ready":1}', b'{"ready":"true"}', b'{"ready":null}'])
def test_x1_ready_is_a_boolean(triton: Server, body: bytes) -> None:
    """Anything else is refused in Triton's words."""
    answer = triton.request("POST", "/v2/repository/index", body)
    assert answer.status == 400 and "Invalid value for 'ready': expected a boolean" in answer.error


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b"[" * 200, b"\xff"])
def test_x1_a_body_that_is_no_object(triton: Server, body: bytes) -> None:
    """A mistake of the client, and said to be one."""
    assert triton.request("POST", "/v2/repository/index", body).status == 400


# ---- X2 to X6: load and unload


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize("model", ["sum", "nobody"])
def test_x2_x3_x6_loading_is_off_unless_the_server_says_otherwise(wire: Wire, verb: str, model: str) -> None:
    """Refused as Triton does without explicit control, whatever else is in the request; nothing changes."""
    before = wire.index()
    for parameters in (None, {"unload_dependents": False}, {"config": "{}", "file:1/model.py": "eA=="}):
        text = refused(503, wire.load, model, parameters, verb=verb)
        assert "explicit model load / unload is not allowed if polling is enabled" in text and "--model-control" in text
    assert wire.index() == before


def test_x4_there_is_one_repository(wire: Wire) -> None:
    """A repository by name is refused, in the index too."""
    for verb in ("load", "unload"):
        assert "'repository_name' specification is not supported" in refused(501, wire.load, "sum", None, "mine", verb)
    assert "'repository_name' specification is not supported" in refused(501, wire.index, repository="mine")


# ---- X7: model configuration


def test_x7_the_configuration_says_what_is_served(wire: Wire) -> None:
    """Name, platform, back end, batch size, inputs and outputs without the batch axis, batching, replicas, versions."""
    found = wire.config("sum")
    assert (found["name"], found["platform"], found["backend"], found["max_batch_size"]) == ("sum", "python", "python", 8)
    assert [(one["name"], one["data_type"], one["dims"], one["optional"]) for one in found["input"]] == [
        ("a", "TYPE_FP32", [16], False),
        ("b", "TYPE_FP32", [16], False),
    ]
    assert [(one["name"], one["data_type"], one["dims"]) for one in found["output"]] == [
        ("sum", "TYPE_FP32", [16]),
        ("difference", "TYPE_FP32", [16]),
    ]
    assert found["dynamic_batching"]["max_queue_delay_microseconds"] == 2000
    assert [(one["kind"], one["count"]) for one in found["instance_group"]] == [("KIND_CPU", 1)]
    assert found["version_policy"] == {"specific": {"versions": [1]}}
    assert found["model_transaction_policy"] == {"decoupled": False}


def test_x7_what_varies_is_optional_or_has_no_batch(wire: Wire) -> None:
    """Optional inputs are marked, -1 varies, text is TYPE_STRING; without a batch axis the batch size is 0 and nothing is batched."""
    people = {one["name"]: one for one in wire.config("people")["input"]}
    assert people["vip"]["optional"] is True and people["age"]["optional"] is False
    assert (people["name"]["data_type"], people["name"]["dims"]) == ("TYPE_STRING", [])
    scalar = wire.config("scalar")
    assert scalar["max_batch_size"] == 0 and "dynamic_batching" not in scalar
    assert {one["name"]: one["dims"] for one in scalar["input"]} == {"x": [], "matrix": [2, -1]}


def test_x7_device_and_unbatched(wire: Wire) -> None:
    """A device of a GPU is named; a batch of one row is no dynamic batching."""
    found = wire.config("alone")
    assert [(one["kind"], one["gpus"]) for one in found["instance_group"]] == [("KIND_GPU", [1])]
    assert found["max_batch_size"] == 1 and "dynamic_batching" not in found


def test_x7_every_datatype_has_its_name(wire: Wire) -> None:
    """Triton's names: BYTES is TYPE_STRING, all others are TYPE_ and the name."""
    found = {one["name"].upper(): one["data_type"] for one in wire.config("types")["input"]}
    assert found == {name: f"TYPE_{'STRING' if name == 'BYTES' else name}" for name in found} and len(found) == 14


def test_x7_by_version(wire: Wire) -> None:
    """Each version has its own replicas; an alias is a version; what is not there is not found."""
    assert wire.config("two", "1")["instance_group"][0]["count"] == 1
    assert wire.config("two", "2")["instance_group"][0]["count"] == wire.config("two")["instance_group"][0]["count"] == 2
    assert wire.config("two", "champion") == wire.config("two", "2")
    assert "unknown model" in refused(404, wire.config, "nobody")
    assert "version 9 is not found" in refused(404, wire.config, "two", "9")


def test_x7_both_transports_say_the_same(triton: Server) -> None:
    """HTTP has every field that the message has, defaults included, as numbers and names of enums."""
    answer = triton.get("/v2/models/sum/config").json
    assert answer["default_model_filename"] == "" and answer["model_warmup"] == [] and answer["parameters"] == {}
    assert answer["input"][0]["format"] == "FORMAT_NONE" and answer["input"][0]["is_shape_tensor"] is False


# ---- X8: statistics


def test_x8_counts_are_those_of_the_requests(wire: Wire) -> None:
    """Requests, rows and batches, well and failed, each with its time; an execution of n rows is n inferences."""
    (before,) = wire.statistics("counted")
    for rows in (1, 3, 3):
        wire.infer("counted", both(rows))
    refused(400, wire.infer, "counted", {"a": both()["a"]})
    (after,) = wire.statistics("counted")

    def more(*path: str) -> int:
        first, last = before, after
        for step in path:
            first, last = first[step], last[step]
        return int(last) - int(first)

    assert (more("inference_count"), more("execution_count")) == (7, 3)
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert more("inference_stats", part, "count") == 3, part
    assert more("inference_stats", "fail", "count") == 1 and more("inference_stats", "fail", "ns") > 0
    for part in ("success", "queue", "compute_infer"):
        assert more("inference_stats", part, "ns") > 0, part
    inside = more("inference_stats", "queue", "ns") + more("inference_stats", "compute_infer", "ns")
    assert more("inference_stats", "success", "ns") > inside
    assert after["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    assert after["last_inference"] > before["last_inference"] and after["last_inference"] > 1_600_000_000_000


def test_x8_batches_by_size(wire: Wire) -> None:
    """Every size of a batch has its executions and their time, and they add up to the whole."""
    wire.infer("counted", both(2))
    wire.infer("counted", both(8))
    (found,) = wire.statistics("counted")
    sizes = [one["batch_size"] for one in found["batch_stats"]]
    assert sizes == sorted(sizes) and {2, 8} <= set(sizes)
    counts = {one["batch_size"]: one["compute_infer"]["count"] for one in found["batch_stats"]}
    assert sum(counts.values()) == found["execution_count"]
    assert sum(size * count for size, count in counts.items()) == found["inference_count"]
    assert all(one["compute_infer"]["ns"] > 0 for one in found["batch_stats"])
    # A request counts the time of its whole batch, and here each is a batch of its own.
    whole = sum(one["compute_infer"]["ns"] for one in found["batch_stats"])
    assert abs(whole - found["inference_stats"]["compute_infer"]["ns"]) <= len(sizes)


def test_x8_all_models_one_model_one_version(wire: Wire) -> None:
    """Without a name all of them; with one, its versions; a version or alias by itself; what is not there is not found."""
    entries = [(one["name"], one["version"]) for one in wire.statistics()]
    assert {("sum", "1"), ("two", "1"), ("two", "2"), ("absent", "1")} <= set(entries)
    assert [one["version"] for one in wire.statistics("two")] == ["1", "2"]
    assert [one["version"] for one in wire.statistics("two", "1")] == ["1"]
    assert [one["version"] for one in wire.statistics("two", "champion")] == ["2"]
    (absent,) = wire.statistics("absent")
    assert absent["inference_count"] == absent["last_inference"] == 0 and absent["batch_stats"] == []
    assert "unknown model" in refused(404, wire.statistics, "nobody")
    assert "version 9 is not found" in refused(404, wire.statistics, "two", "9")


def test_x8_versions_are_counted_apart(wire: Wire) -> None:
    """What version 1 computes is no business of version 2."""
    counts = {one["version"]: one["inference_count"] for one in wire.statistics("two")}
    wire.infer("two", {"x": Tensor("FP32", [3, 1], [1.0, 2.0, 3.0])}, version="1")
    after = {one["version"]: one["inference_count"] for one in wire.statistics("two")}
    assert after == {"1": counts["1"] + 3, "2": counts["2"]}


# ---- X9, X10: shared memory


@pytest.mark.parametrize("kind", ["system", "cuda"])
@pytest.mark.parametrize("verb", ["status", "register", "unregister"])
def test_x9_x10_shared_memory_is_off(wire: Wire, kind: str, verb: str) -> None:
    """Refused with the words of a Triton that does not allow it, the status too."""
    assert "Client shared memory is disabled" in refused(501, wire.shared_memory, kind, verb)


@pytest.mark.parametrize("path", ["/v2/systemsharedmemory/region/mine/status", "/v2/cudasharedmemory/region/mine/status"])
def test_x9_x10_status_of_one_region(triton: Server, path: str) -> None:
    """Off, too."""
    assert triton.get(path).status == 501
    assert triton.request("POST", path.replace("/region/mine/status", "/unregister"), b"").status == 501


def test_x9_a_tensor_in_shared_memory_is_refused(triton: Server) -> None:
    """As input and as output, by name."""
    region = {"shared_memory_region": "mine", "shared_memory_byte_size": 64}
    inputs = [tensor("a", "FP32", [1, 16], None, **region), tensor("b", "FP32", [1, 16], ROW)]
    answer = triton.infer("sum", {"inputs": inputs})
    assert answer.status == 501 and "input 'a'" in answer.error and "Client shared memory is disabled" in answer.error
    inputs[0] = tensor("a", "FP32", [1, 16], ROW)
    for parameters in (region, region | {"classification": 1}, region | {"binary_data": True}):
        answer = triton.infer("sum", {"inputs": inputs, "outputs": [{"name": "sum", "parameters": parameters}]})
        assert answer.status == 501 and "Client shared memory is disabled" in answer.error


# ---- X11, X12: traces and logging


def test_x11_traces_are_off_and_said_to_be(wire: Wire) -> None:
    """Of the server and of a model; of a model that is not there nothing is said."""
    for found in (wire.trace(), wire.trace("sum")):
        assert found["trace_level"] == ["OFF"] and found["trace_count"] == "-1"
    assert "unknown model" in refused(404, wire.trace, "nobody")


def test_x11_traces_cannot_be_set(wire: Wire) -> None:
    """Refused by the name of the setting, never taken and forgotten."""
    assert "trace_level: this server does not support trace" in refused(501, wire.trace, trace_level=["TIMESTAMPS"])
    assert "trace_rate" in refused(501, wire.trace, "sum", trace_rate="1")
    assert wire.trace()["trace_level"] == ["OFF"]


def test_x12_the_log_says_what_it_is(wire: Wire) -> None:
    """All settings, with their types; none can be changed."""
    found = wire.log()
    assert found["log_info"] is found["log_warning"] is found["log_error"] is True
    assert found["log_verbose_level"] == 0 and found["log_format"] == "default" and found["log_file"] == ""
    assert "log_info: this server does not support dynamic logging" in refused(501, wire.log, log_info=False)
    assert wire.log() == found


# ---- X13: classification


def test_x13_the_largest_values_of_each_row(wire: Wire) -> None:
    """``value:index`` in falling order, BYTES of shape [batch, n]; other outputs as they are."""
    values = [0.1, 0.7, 0.2, *[0.0] * 13, *[-1.0] * 15, 2.5]
    inputs = {"a": Tensor("FP32", [2, 16], values), "b": Tensor("FP32", [2, 16], [0.0] * 32)}
    found = wire.infer("sum", inputs, outputs={"sum": {"classification": 2}, "difference": {}})
    assert (found["sum"].datatype, found["sum"].shape) == ("BYTES", [2, 2])
    assert found["sum"].data == ["0.700000:1", "0.200000:2", "2.500000:15", "-1.000000:0"]
    assert found["difference"].datatype == "FP32" and found["difference"].shape == [2, 16]
    again = wire.infer("sum", inputs, outputs={"sum": {"classification": 2}, "difference": {}})
    assert again == found


def test_x13_more_classes_than_there_are(wire: Wire) -> None:
    """All of them, then; and 0 is the output itself."""
    found = wire.infer("two", {"x": Tensor("FP32", [2, 1], [1.0, 2.0])}, outputs={"output": {"classification": 5}})
    assert (found["output"].shape, found["output"].data) == ([2, 1], ["2:0", "2:0"])
    found = wire.infer("two", {"x": Tensor("FP32", [2, 1], [1.0, 2.0])}, outputs={"output": {"classification": 0}})
    assert found["output"] == Tensor("INT64", [2, 1], [2, 2])


def test_x13_without_a_batch_axis(wire: Wire) -> None:
    """The whole output is one row, flat; equal values keep their order."""
    inputs = {"x": Tensor("FP64", [], [1.0]), "matrix": Tensor("FP32", [2, 2], [1.0, 5.0, 5.0, 2.0])}
    found = wire.infer("scalar", inputs, outputs={"turned": {"classification": 3}})
    assert (found["turned"].shape, found["turned"].data) == ([3], ["5.000000:1", "5.000000:2", "2.000000:3"])


def test_x13_integers_and_split_requests(wire: Wire) -> None:
    """Integers are written as such; a request above the largest batch is one answer all the same."""
    inputs = {"uint8": Tensor("UINT8", [20, 2], [value for row in range(20) for value in (row, 255 - row)])}
    found = wire.infer("types", inputs, outputs={"same_uint8": {"classification": 1}})
    assert found["same_uint8"] == Tensor("BYTES", [20, 1], [f"{255 - row}:1" for row in range(20)])


def test_x13_what_has_no_classes(wire: Wire) -> None:
    """Text has none, and a number of classes is a number; refused before anything is computed, by name."""
    text = refused(400, wire.infer, "text", {"text": Tensor("BYTES", [1, 1], ["a"])}, outputs={"output": {"classification": 1}})
    assert "class result not available for output 'output' due to unsupported type 'BYTES'" in text
    for value in (-1, "2", True, 1.5):
        text = refused(400, wire.infer, "sum", both(), outputs={"sum": {"classification": value}})
        assert "output 'sum': parameter 'classification'" in text
    assert "requested output" in refused(400, wire.infer, "sum", both(), parameters={"classification": 1})


def test_x13_in_binary_form(triton: Server) -> None:
    """Classes are BYTES like any others: in binary form where that is asked for."""
    body = {
        "inputs": [tensor("a", "FP32", [1, 16], [*ROW[:-1], 3.0]), tensor("b", "FP32", [1, 16], [0.0] * 16)],
        "outputs": [{"name": "sum", "parameters": {"classification": 1, "binary_data": True}}],
    }
    answer = triton.infer("sum", body)
    assert answer.json["outputs"][0]["shape"] == [1, 1]
    assert answer.blobs == b"\x0b\x00\x00\x003.000000:15"


# ---- X15: priorities and timeouts


def test_x15_priority_decides_who_goes_first(wire: Wire) -> None:
    """Of what waits, 1 is run before 2, and both before those without."""
    base = 100 if isinstance(wire, HttpWire) else 200
    with ThreadPoolExecutor() as threads:
        held = threads.submit(wire.infer, "gate", one(-base))
        eventually(lambda: -base in wire.server.executed("gate-1"), "the replica is busy")
        later = []
        for value, priority in ((1, 2), (2, None), (3, 1)):
            waiting = wire.server.metric("headgate_queue_rows", deployment="gate")
            parameters = None if priority is None else {"priority": priority}
            later.append(threads.submit(wire.infer, "gate", one(base + value), parameters=parameters))
            eventually(lambda: wire.server.metric("headgate_queue_rows", deployment="gate") > waiting, "it waits")  # noqa: B023
        wire.server.package_file("gate-1", f"release{-base}").touch()
        assert [request.result()["output"].data for request in (held, *later)] == [[-base], [base + 1], [base + 2], [base + 3]]
    run = [value for value in wire.server.executed("gate-1") if base < value < base + 10]
    assert run == [base + 3, base + 1, base + 2]


def test_x15_a_wrong_priority(wire: Wire) -> None:
    """Refused by name; the largest that is allowed is taken."""
    for value in (-1, "1", 1.5, True, 1 << 32):
        assert "parameter 'priority'" in refused(400, wire.infer, "gate", one(1), parameters={"priority": value})
    assert wire.infer("gate", one(7), parameters={"priority": (1 << 32) - 1})["output"].data == [7]


def test_x15_a_timeout_in_microseconds_ends_the_request(wire: Wire) -> None:
    """In Triton's words, on time, and what still waited is never run."""
    value = -3 if isinstance(wire, HttpWire) else -4
    held = one(value)
    text = refused(504, wire.infer, "gate", held, parameters={"timeout": 200_000})
    assert "Request timeout expired" in text
    wire.server.package_file("gate-1", f"release{value}").touch()
    for wrong in (-1, "1", 1.5):
        assert "parameter 'timeout'" in refused(400, wire.infer, "gate", held, parameters={"timeout": wrong})


# ---- metadata, metric names


def test_extensions_are_what_is_here(wire: Wire) -> None:
    """Each extension that works is named, and none that does not."""
    assert set(wire.extensions()) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "sequence",
        "statistics",
    }


def test_metrics_under_tritons_names(triton: Server) -> None:
    """Counted once, told under both names; what is not known is refused with the likely spelling."""
    wire = HttpWire(triton)
    wire.infer("two", {"x": Tensor("FP32", [2, 1], [1.0, 2.0])}, version="1")
    refused(400, wire.infer, "two", {}, version="1")
    (found,) = wire.statistics("two", "1")
    answer = triton.get("/metrics?names=triton")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    samples = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}

    def sample(name: str, **more: str) -> float:
        labels = ",".join(f'{key}="{value}"' for key, value in {"model": "two", "version": "1", **more}.items())
        return samples[f"{name}{{{labels}}}"]

    assert sample("nv_inference_count") == found["inference_count"]
    assert sample("nv_inference_exec_count") == found["execution_count"]
    assert sample("nv_inference_request_success") == found["inference_stats"]["success"]["count"]
    failures = [sample("nv_inference_request_failure", reason=reason) for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")]
    assert sum(failures) == found["inference_stats"]["fail"]["count"] and failures[3] >= 1
    micros = sample("nv_inference_compute_infer_duration_us")
    assert abs(micros - found["inference_stats"]["compute_infer"]["ns"] / 1e3) <= 1
    assert sample("nv_inference_pending_request_count") == 0
    assert "# TYPE nv_inference_count counter" in lines
    wrong = triton.get("/metrics?names=tritan")
    assert wrong.status == 400 and "did you mean 'triton'" in wrong.error
    assert triton.get("/metrics?names=headgate").body.startswith(b"# HELP headgate_requests_total")


def test_metrics_of_what_waits_and_of_what_failed(triton: Server) -> None:
    """A model's own exception is the back end's failure; what waits now is pending."""
    wire = HttpWire(triton)
    refused(500, wire.infer, "gate", one(13))
    text = triton.get("/metrics?names=triton").body.decode()
    line = 'nv_inference_request_failure{model="gate",version="1",reason="BACKEND"} '
    assert int(text.partition(line)[2].partition("\n")[0]) >= 1
    eventually(lambda: 'nv_inference_pending_request_count{model="gate",version="1"} 0' in _metrics(triton), "nothing waits")


def _metrics(server: Server) -> str:
    return server.get("/metrics?names=triton").body.decode()


# ---- X21: the load of an endpoint


def load_of(triton: Server, form: str, model: str = "sum", value: Any = None) -> str | None:
    """Infer with the header of ORCA, and return what the answer says of the load."""
    inputs = [tensor(name, "FP32", [1, 16], ROW) for name in "ab"] if value is None else [tensor("x", "INT64", [1, 1], [value])]
    answer = triton.infer(model, {"inputs": inputs}, {"endpoint-load-metrics-format": form})
    assert answer.status == 200
    return answer.headers.get("endpoint-load-metrics")


def test_x21_the_load_is_told_in_two_forms(triton: Server) -> None:
    """Text and JSON, by the words of ORCA; in no other form, and to nobody who does not ask."""
    text = load_of(triton, "text")
    assert text is not None and re.fullmatch(
        r"TEXT application_utilization=[0-9.]+, named_metrics\.queue_rows=\d+, named_metrics\.ready_replicas=1", text
    )
    said = load_of(triton, "JSON")
    assert said is not None and said.startswith("JSON ")
    assert json.loads(said[5:])["named_metrics"]["ready_replicas"] == 1
    assert load_of(triton, "bin") is None
    assert load_of(triton, "") is None
    generated = triton.request("POST", "/v2/models/gate/generate", b'{"x": 1}', {"endpoint-load-metrics-format": "text"})
    assert generated.headers["endpoint-load-metrics"].startswith("TEXT ")
    both = {"endpoint-load-metrics-format": "text", "x-headgate-timing": "1"}
    answer = triton.request("POST", "/v2/models/gate/generate", b'{"x": 1}', both)
    assert {"endpoint-load-metrics", "x-headgate-queue-ms"} <= answer.headers.keys()


def test_x21_what_waits_is_load(triton: Server) -> None:
    """Idle it is 0; with rows that wait for the only replica it is above 0, and they are counted."""
    said = load_of(triton, "json", "gate", 1)
    assert said is not None and json.loads(said[5:])["application_utilization"] == 0
    with ThreadPoolExecutor(4) as pool:
        held = pool.submit(load_of, triton, "json", "gate", -2101)
        eventually(lambda: -2101 in triton.executed("gate-1"), "the gate is held")
        behind = [pool.submit(load_of, triton, "json", "gate", value) for value in (2102, 2103)]
        eventually(lambda: triton.metric("headgate_queue_rows", deployment="gate") == 2, "two wait")
        triton.package_file("gate-1", "release-2101").touch()
        first = held.result()
        assert first is not None and json.loads(first[5:])["application_utilization"] >= 1
        assert json.loads(first[5:])["named_metrics"]["queue_rows"] in (1, 2)
        assert all(each.result() for each in behind)
