"""What the supervisor is made of: its decisions, its children, their logs, the listening sockets, and what an earlier one left.

Standard library, `headgate.errors` and `headgate.home` only: this process lives as long as the server, and must stay small.
"""
