# Each target makes its own .venv from nothing but Python and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-vllm lint types bench-speed clean

$(VENV)/demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded]'
	touch $@

$(VENV)/dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/demo

demo: $(VENV)/demo
	$(BIN)/tts demo

test: $(VENV)/dev
	$(BIN)/python -m pytest

test-vllm:
	PYTHON=$(PYTHON) tests/vllm/run

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/python tests/types_tree.py

bench-speed: $(VENV)/dev
	$(BIN)/python -m tts.benchmarks.speed

clean:
	rm -rf $(VENV) .venv-vllm build dist *.egg-info .types .mypy_cache .ruff_cache .pytest_cache .hypothesis
