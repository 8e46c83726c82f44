"""One module per command: ``arguments(parser)`` adds its flags, ``run(args)`` carries it out and returns the exit code."""
