"""Ask a server as MLflow's own client does: ``python -P mlflow_client.py HOST PORT MODEL``.

Raises unless the answer is that of the model itself.
"""

from __future__ import annotations

import io
import json
import sys

import numpy as np
from mlflow import pyfunc
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server.client import ScoringServerClient


def leaves(value):
    """Yield the numbers and words of a JSON value, in order."""
    if isinstance(value, dict | list):
        for part in value.items() if isinstance(value, dict) else value:
            yield from leaves(list(part) if isinstance(part, tuple) else part)
    else:
        yield value


if __name__ == "__main__":
    host, port, path = sys.argv[1:]
    client, model = ScoringServerClient(host, port), pyfunc.load_model(path)
    client.ping()
    assert client.get_version()
    output = io.StringIO()
    scoring_server.predictions_to_json(model.predict(model.input_example), output)
    found, expected = list(leaves(client.invoke(model.input_example))), list(leaves(json.loads(output.getvalue())))
    assert [type(leaf) for leaf in found] == [type(leaf) for leaf in expected], (found, expected)
    numbers = [[leaf for leaf in side if not isinstance(leaf, str)] for side in (found, expected)]
    np.testing.assert_allclose(*numbers, rtol=1e-6)
    assert [leaf for leaf in found if isinstance(leaf, str)] == [leaf for leaf in expected if isinstance(leaf, str)]
