"""Every field of ``config.pbtxt``, and what becomes of it: it is followed, named in a warning, or refused. There is no fourth."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, MutableSequence
from typing import Any

from headgate.errors import UnsupportedModel

FOLLOWED = frozenset(
    """
    name platform backend version_policy max_batch_size default_model_filename parameters model_warmup model_transaction_policy
    input.name input.data_type input.dims input.reshape input.optional
    output.name output.data_type output.dims output.reshape
    instance_group.name instance_group.kind instance_group.count instance_group.gpus
    output.label_filename
    dynamic_batching.max_queue_delay_microseconds
    ensemble_scheduling.step.model_name ensemble_scheduling.step.model_version
    ensemble_scheduling.step.input_map ensemble_scheduling.step.output_map
    sequence_batching.max_sequence_idle_microseconds sequence_batching.control_input
    sequence_batching.oldest.max_candidate_sequences
    sequence_batching.state.input_name sequence_batching.state.output_name sequence_batching.state.data_type
    sequence_batching.state.dims sequence_batching.state.initial_state
    """.split()
)
"""Paths of fields, each with all that is in it. Who follows them may still refuse a value."""

WARNED = {
    "optimization": "hints for accelerators are not followed",
    "metric_tags": "metrics have no labels of a model's own",
    "model_metrics": "the buckets of histograms are the same for every model",
    "response_cache": "every request is computed; answers are not kept",
    "dynamic_batching.preferred_batch_size": "a free replica takes what waits, whatever its number",
    "dynamic_batching.preserve_ordering": "every request is answered when it is done",
    "dynamic_batching.priority_levels": "a request may ask for any priority, and 1 is taken first, then 2, and so on",
    "dynamic_batching.default_priority_level": "a request that asks for no priority is taken after those that ask for 1 to 99",
    "dynamic_batching.default_queue_policy": "use --timeout and --max-queue-rows",
    "dynamic_batching.priority_queue_policy": "use --timeout and --max-queue-rows",
    "sequence_batching.direct.max_queue_delay_microseconds": "a request of a sequence runs alone, as soon as its replica is free",
    "sequence_batching.direct.minimum_slot_utilization": "a request of a sequence runs alone, as soon as its replica is free",
    "sequence_batching.oldest.preferred_batch_size": "a request of a sequence runs alone, as soon as its replica is free",
    "sequence_batching.oldest.max_queue_delay_microseconds": "a request of a sequence runs alone, as soon as its replica is free",
    "sequence_batching.oldest.preserve_ordering": "requests of one sequence are answered in order, others when they are done",
    "sequence_batching.state.use_same_buffer_for_input_output": "the state of each sequence is an array of its own",
    "sequence_batching.state.use_growable_memory": "the state of each sequence is an array of its own",
    "instance_group.rate_limiter": "replicas run whenever there is work",
    "instance_group.host_policy": "replicas are not bound to cores or memory",
    "input.format": "it changes no shape; inputs are taken as dims say",
    "input.allow_ragged_batch": "requests of one shape share a batch, others are run apart",
    "ensemble_scheduling.max_inflight_requests": "a batch goes through all steps before the next one begins",
}
"""Path -> what is the case instead; for people."""

REFUSED = {
    "runtime": "the back end is chosen by 'backend' alone",
    "ensemble_scheduling.step.model_namespace": "there is one repository, and models go by their names in it",
    "sequence_batching.iterative_sequence": "a request is answered once, and not scheduled again until it is done",
    "batch_input": "inputs that only a batch has are not made here",
    "batch_output": "outputs that only a batch has are not made here",
    "cc_model_filenames": "files by the kind of GPU are not told apart; name one by default_model_filename",
    "model_operations": "libraries of custom operations are not loaded",
    "model_repository_agents": "agents are not run, so what they would check or decrypt is not",
    "instance_group.secondary_devices": "there are no such devices here",
    "instance_group.profile": "profiles belong to TensorRT, which is not served",
    "instance_group.passive": "every replica takes work",
    "input.is_shape_tensor": "shape tensors belong to TensorRT, which is not served",
    "input.is_non_linear_format_io": "such formats belong to TensorRT, which is not served",
    "output.is_shape_tensor": "shape tensors belong to TensorRT, which is not served",
    "output.is_non_linear_format_io": "such formats belong to TensorRT, which is not served",
}
"""Path -> why; for people."""


def judged(config: Any, where: str) -> tuple[str, ...]:
    """Return a sentence for each field that is set in the ``ModelConfig`` and not followed; ``where`` begins each.

    Raises `UnsupportedModel` for one without which the model would be another.
    """
    found = dict.fromkeys(_set(config, ""))
    for path in found:
        if path in REFUSED:
            raise UnsupportedModel(f"{where}{path}: {REFUSED[path]}; nothing was registered")
    return tuple(f"{where}{path}: {WARNED[path]}" for path in found if path in WARNED)


def _set(message: Any, prefix: str) -> Iterator[str]:
    """Yield the path of every field that is set, as deep as the tables go."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if path in FOLLOWED or path in WARNED or path in REFUSED:
            yield path
        elif field.message_type is None or isinstance(value, MutableMapping):
            raise UnsupportedModel(f"{path}: this version does not know what to do with it; leave it out")
        else:
            for inner in value if isinstance(value, MutableSequence) else [value]:
                yield from _set(inner, f"{path}.")


def plain(message: Any) -> dict[str, Any]:
    """Return a message as Triton hands it to Python models: fields by their names, defaults too, enums by name, numbers as numbers."""
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if isinstance(value, MutableMapping):
            of_value = field.message_type.fields_by_name["value"]
            fields[field.name] = {str(key): _plain(of_value, value[key]) for key in sorted(value)}
        elif isinstance(value, MutableSequence):
            fields[field.name] = [_plain(field, item) for item in value]
        else:
            fields[field.name] = _plain(field, value)
    return fields


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    return field.enum_type.values_by_number[value].name if field.enum_type is not None else value
