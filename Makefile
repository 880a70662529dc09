# Everything runs in .venv, made on first use. `make demo`, `make test` and `make check` are all one needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check format docs gpu-bench clean

demo: $(VENV)/installed
	$(BIN)/louder demo

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/installed
	$(BIN)/mkdocs build --strict

# with the Python that has torch and Triton for the GPU; nothing else is needed
gpu-bench:
	$(PYTHON) -m benchmarks gpu --json benchmarks/results/gpu.jsonl

# torch goes first and alone: left to other packages, pip would take a newer one, with gigabytes of CUDA
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Louder needs Python 3.11 or newer. Say which: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

clean:
	rm -rf $(VENV) site build .pytest_cache .mypy_cache .ruff_cache .hypothesis
