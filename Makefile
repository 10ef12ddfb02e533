# Needs python3 (3.11 or newer, with venv) and make. Everything else comes pinned, with hashes, from
# requirements.lock: the packages, the tools, and uv, which installs them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
LOCK   := requirements.lock
PIP    := $(BIN)/uv pip
INTO   := --python $(BIN)/python
TEST   := $(BIN)/python -m pytest
APT    := apt-get install -y -q --no-install-recommends

# Compiled files make every later start faster, so they are wanted whatever the caller's habit is.
unexport PYTHONDONTWRITEBYTECODE
# Never ask the network for a newer version of pyright.
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test tools check fix bench soak lab lock dist clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Install everything into .venv; the other targets do it as needed

demo: setup ## Explore, prepare and train on a real dataset: no key, no network, no account
	@$(BIN)/trainable demo

test: setup tools ## Run the tests, README examples and notebooks
	@$(TEST) $(ARGS)

tools: ## Install bubblewrap for the tests where that can be done, or say that it is missing
	@command -v bwrap > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
	  { $(APT) bubblewrap || { apt-get -q update && $(APT) bubblewrap; }; } > /dev/null 2>&1; } || \
	  echo "bubblewrap is missing, so that level is not tested: apt-get install bubblewrap"

check: setup ## Check style, types, layers, budgets, generated files and the lock
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/python jupyter_ext/generate.py --check
	@$(TEST) -q -k "not runs" tests/test_docs.py \
	  $(addprefix tests/unit/test_,budgets.py packaging.py public_api.py)

fix: setup ## Format, mend what can be mended, write the generated files again
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python jupyter_ext/generate.py

bench: setup $(VENV)-peers/.installed ## Measure and print: speed, and model quality beside plain defaults
	@$(TEST) -m bench -s --timeout=0 tests/benchmarks $(ARGS)

soak: setup ## Run the long tests: crashes, many processes, much data
	@$(TEST) -m soak --timeout=0 tests $(ARGS)

lab: setup ## Start JupyterLab in the notebooks folder
	@$(BIN)/jupyter lab notebooks

# `make lock UPGRADE=--upgrade` takes the newest versions; without it, only what has to change does.
lock: $(VENV)/.deps ## Write requirements.lock again from pyproject.toml
	@$(PIP) compile -q --universal --generate-hashes --no-annotate --no-header $(UPGRADE) \
	  --extra lab --extra postgres --extra ml --group dev pyproject.toml -o $(LOCK)

dist: setup ## Build the wheel and the source distribution into dist
	@$(BIN)/python -m hatchling build

clean: ## Remove what the targets made; sessions under ~/.trainable stay
	rm -rf $(VENV) dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The locked packages and nothing else. uv is one of them: its pin and hashes are cut from the lock.
$(VENV)/.deps: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or newer is needed, for example: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "Installing the pinned packages into $(VENV) (once, a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' $(LOCK) > $(VENV)/uv.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@$(PIP) sync -q $(INTO) --require-hashes --compile-bytecode $(LOCK)
	@touch $@

# What the benchmarks measure against, apart from the project's own packages.
$(VENV)-peers/.installed: tests/benchmarks/peers.txt | setup
	@$(BIN)/uv venv -q --clear $(VENV)-peers
	@$(PIP) install -q --python $(VENV)-peers/bin/python -r $<
	@touch $@

# The project itself, editable.
$(VENV)/.installed: $(VENV)/.deps pyproject.toml
	@$(PIP) install -q $(INTO) --no-deps --no-build-isolation --reinstall-package trainable-lab -e .
	@$(PIP) check -q $(INTO) || { echo "$(LOCK) does not fit pyproject.toml: run 'make lock'"; exit 1; }
	@touch $@
