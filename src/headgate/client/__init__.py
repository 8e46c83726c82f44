"""Calling deployments from Python: arrays, dicts, data frames and rows in; the same kind out.

    with headgate.Client() as client:
        client.predict("fraud", {"amount": 12.5, "country": "DE"})

`Client` and `AsyncClient` are thin: what is sent and what an answer means is in `steps`, without any input or output.
"""

from headgate.client.http import AsyncClient, Client
from headgate.client.wire import Field, Metadata

__all__ = ["AsyncClient", "Client", "Field", "Metadata"]
