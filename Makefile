# Everything happens in .venv, which the first target that needs it makes: only a Python >= 3.11 has to be there.

PYTHON := $(or $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done),\
	$(error FeatureFlow needs Python 3.11 or newer, and there is none on the PATH))
PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet
FEATUREFLOW := ../.venv/bin/featureflow
WORKERS ?= auto
EVENTS ?= 200000
LABELS ?= 5000

.DEFAULT_GOAL := help

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: install  ## From nothing to an audited training set and a served vector, each command shown as it runs
	@bash demo.sh

test: .venv/dev  ## Run the tests that take a few minutes together
	.venv/bin/pytest -n $(WORKERS) -m "not slow"

test-all: .venv/dev  ## Run all tests
	.venv/bin/pytest -n $(WORKERS)

check: .venv/dev  ## Lint, format, types, and which room may import which
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: .venv/dev  ## Measure streaming, datasets and serving, each against a floor of the same run
	.venv/bin/python bench/cli.py
	.venv/bin/python bench/stream.py
	.venv/bin/python bench/dataset.py
	.venv/bin/python bench/serve.py

bench-stream: .venv/dev  ## Measure the stream on a real Kafka and Redis; and beside its peers, where they are installed
	.venv/bin/python -m bench.streaming

bench-peers:  ## Install what bench-stream compares with (Quix Streams, Spark) into bench/.peers, apart from .venv
	$(PYTHON) -m venv bench/.peers/quix && bench/.peers/quix/bin/pip install --quiet 'quixstreams[redis]==3.28.1'
	$(PYTHON) -m venv bench/.peers/spark && bench/.peers/spark/bin/pip install --quiet pyspark==4.2.0
	mvn -q -B -f bench/streaming/spark-kafka.xml dependency:copy-dependencies -DincludeScope=runtime \
		-DexcludeGroupIds=org.scala-lang,org.apache.hadoop,org.slf4j -DoutputDirectory=$(CURDIR)/bench/.peers/jars

services: .venv/dev  ## Run a Kafka and a Redis on loopback until Ctrl-C, without Docker; prints what to export
	.venv/bin/python -m tests.services install
	.venv/bin/python -m tests.services kafka redis --usual-ports

install: .venv/installed  ## Install featureflow into .venv

produce: install  ## Write synthetic events and labels into example_repo/data
	cd example_repo && $(FEATUREFLOW) generate --events $(EVENTS) --labels $(LABELS)

process: install  ## Apply the example's definitions and stream its events into both stores
	cd example_repo && $(FEATUREFLOW) apply --yes
	cd example_repo && $(FEATUREFLOW) stream --once

build-dataset: install  ## Build data/training_dataset.csv from the example's labels
	@mkdir -p data
	cd example_repo && $(FEATUREFLOW) build-dataset --labels data/labels.parquet --service ranking_v1 \
		--output ../data/training_dataset.csv

clean:  ## Delete what was made: data, caches, builds; .venv stays
	rm -rf data example_repo/data bench/results dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A stamp is newer than pyproject.toml once what that file asks for is installed.
.venv/installed: pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --editable .
	@touch $@

# Dependency groups need pip >= 25.1; the one that comes with Python 3.11 is older.
.venv/dev: .venv/installed pyproject.toml
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install --group dev
	@touch $@

.PHONY: help demo test test-all check bench bench-stream bench-peers services install produce process build-dataset clean
