"""The command line. It speaks the control API over HTTP, and opens a home directly only where no server runs on it.

One module per command in ``commands``, imported when it is chosen; each has ``arguments(parser)`` and ``run(args) -> int``.
"""
