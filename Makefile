# The commands of the README, and lint. The environment is made on first use, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Where it is set, as in many containers, every process compiles torch's modules again, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo small test test-slow test-optimizer lint format docs release-check env env-slow env-docs clean

demo: env
	$(BIN)/adai compare --flatness --jobs 2 --out runs/demo

# The paper's experiments with small nets, and how flat their minima are: hours on two cores, at the lowest priority.
# Interrupted at whatever moment, the same command goes on from the last finished epoch of each run.
SMALL := OMP_NUM_THREADS=1 nice -n 19 $(BIN)/adai paper
AT := --scale small --out results/small
small: env
	$(SMALL) table1 $(AT) --jobs 2
	$(SMALL) table1 $(AT) --jobs 2 --seeds 5 --optimizers adai sgd adam adamw
	$(SMALL) figure2 $(AT) --jobs 2
	$(SMALL) figure6 $(AT)
	$(BIN)/adai report results/small/cifar10-resnet8
	$(BIN)/adai paper results
	$(BIN)/adai paper claims

test: lint
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-slow: env-slow
	$(BIN)/python -m pytest -n 2 -m slow

# The site, in site/: open site/index.html. It is built without the network.
docs: env-docs
	$(BIN)/mkdocs build --strict

# The optimizer's fast tests, with the Python and the torch that are installed; they need pytest and numpy besides.
OPTIMIZER := amp checkpoints conventions cpu degenerate doctor engines from_sgd inertia memory precision rule \
	sharded_checkpoints sharding torch_private triton
test-optimizer:
	$(PYTHON) -m pytest -m 'not slow' $(OPTIMIZER:%=tests/test_%.py)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What would be uploaded, built into dist/, installed and tried.
release-check:
	PYTHON=$(PYTHON) .ci/release-check

env: $(VENV)/ready

# Without --no-compile pip byte-compiles the whole of torch and SymPy: minutes, for modules that are hardly ever imported.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt

# torch goes first and by its version: a range would fetch whatever build is newest, with gigabytes of CUDA.
$(VENV)/ready: pyproject.toml constraints.txt setup.py $(wildcard adai/optim/engines/cpu/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable '.[lab,dev]'
	touch $@

env-slow: $(VENV)/ready-slow

# Ray, trainers, JAX and MkDocs, which nothing else needs. timm and torchtune go without what they ask for: PyPI's
# torchvision needs CUDA, and torchtune an old torchao. The tests import only the parts of them that make optimizers.
$(VENV)/ready-slow: $(VENV)/ready
	$(PIP_INSTALL) --editable '.[lab,dev,docs,ray,integrations]'
	$(PIP_INSTALL) --no-deps timm torchtune
	touch $@

env-docs: $(VENV)/ready-docs

# MkDocs, and what draws docstrings and formulas.
$(VENV)/ready-docs: $(VENV)/ready
	$(PIP_INSTALL) --editable '.[lab,dev,docs]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
