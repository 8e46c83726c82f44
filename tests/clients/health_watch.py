"""What a load balancer sees that watches a server, by gRPC's own client: ``health_watch.py HOST:PORT SERVICE``.

Prints a line for each status that comes, and one for how the watch ends.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def main():
    """Watch until the server ends it."""
    url, service = sys.argv[1:]
    names = health_pb2.HealthCheckResponse.ServingStatus
    with grpc.insecure_channel(url) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))
        try:
            for response in watch:
                print(names.Name(response.status), flush=True)
            print("ended", flush=True)
        except grpc.RpcError as error:
            print(error.code().name, flush=True)


if __name__ == "__main__":
    main()
