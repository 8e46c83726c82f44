# The whole project in a few words; `make help` lists them. Needs Python 3.11, pip, make and git; everything else is installed.

PYTHON ?= $(shell for p in python3.11 python3; do "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
RUN := .venv/bin/python
SUITES ?=

.PHONY: help python setup demo check test test-long bench docs protos clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

python:
	@if [ -z "$(PYTHON)" ]; then echo "Headgate needs Python 3.11 or newer. On Debian 12: apt-get install python3. Elsewhere: make PYTHON=/path/to/python3.11" >&2; exit 1; fi

setup: python  ## .venv with Headgate, ONNX, scikit-learn and the test tools
	@"$(PYTHON)" tools/setup.py test

demo: python  ## train a small model, serve it, send it traffic and print what happens
	@"$(PYTHON)" tools/setup.py demo
	@$(RUN) demo/run.py

check: setup  ## format, lint, types and the rules of the house
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	@$(RUN) tests/run.py house

test: setup  ## every suite but its long tests, one after the other (SUITES="unit house" for some)
	@$(RUN) tests/run.py $(SUITES)

test-long: setup  ## the long tests of every suite
	@$(RUN) tests/run.py --long $(SUITES)

bench: setup  ## measure against other servers (minutes; results in bench/results)
	@$(RUN) -m bench $(BENCH)

docs: setup  ## write docs/reference from the code, then run what the documents show
	@$(RUN) tools/reference.py
	@$(RUN) tests/run.py docs

protos: setup  ## compile the .proto files of the protocols
	@$(RUN) tools/protos.py

clean:  ## remove what was made: environments, caches, results
	rm -rf .venv .envs .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
