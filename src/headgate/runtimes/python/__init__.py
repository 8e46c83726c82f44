"""Plain Python: a class in ``file.py:Class`` whose type hints are the signature.

    class Ranker:
        idempotent = True                      # a batch may be run again after a crash
        def load(self): ...                    # optional; may ask for device and threads
        def predict(self, text: str, top: int = 3) -> list[float]: ...

Hints describe one row: ``int`` INT64, ``float`` FP64, ``bool`` BOOL, ``str`` and ``bytes`` BYTES; ``list[float]`` FP64 [-1]; and
``Annotated[np.ndarray, "FP32[30]"]`` whatever it says. A single dataclass or TypedDict argument stands for its fields. So does the
result; a tuple gives ``output_0``, ``output_1``; one value gives ``output``. An argument ``parameters`` gets the request's parameters.

The class attribute ``batched`` says how predict is called: without it, once per row (the rows of a batch at the same time if it is
async); True: once per batch, each argument an array with a leading batch axis; False: the model has no batch axis at all. The arrays
that predict gets are its own: it may keep and change them.

With ``stateful = True`` the model keeps state between the requests of a sequence: all requests with one ``sequence_id`` come to the same
replica, one by one and one row each, and ``parameters`` holds ``sequence_id``, ``sequence_start`` and ``sequence_end``.

A predict that yields (a generator or an asynchronous one; or one that is hinted to return an ``Iterator[str]``, ``AsyncIterator[str]``)
answers in parts, any number of them: the hint is that of one part. It is called for one request at a time; there is no batch axis,
and a hint of one value is a tensor of shape [1]. Once nobody waits for further parts, the generator is closed where it yields.
"""

from __future__ import annotations

from headgate.runtimes.python.runtime import PythonRuntime

__all__ = ["PythonRuntime"]
