# `make` alone lists the targets. `VENV=<folder>` puts the environment elsewhere, `PYTHON=<path>`
# makes it from another interpreter (3.10 or later). `CPU=1` installs PyTorch without its libraries
# for NVIDIA GPUs, which are half of the environment.

VENV ?= .venv
PYTHON ?= python3
PYTEST_ARGS ?=

BIN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
CPU_INDEX := https://download.pytorch.org/whl/cpu
SITE ?= build/site
SITE_FILES := '*.md' '*.py' configs datasets docs notebooks CITATION.cff LICENSE
DETECTRON2 := $(VENV)/detectron2-wheel
MATRIX := $(foreach python,3.10 3.11 3.12 3.13,matrix-$(python)-lowest matrix-$(python)-highest)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install detectron2 demo test test-all test-faults site dist matrix $(MATRIX) lint format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(BIN) $(STAMP) ## Install all that is missing into .venv (CPU=1: PyTorch without GPU libraries)

demo: install ## Train a small detector on the CPU and draw what it finds, into output/demo
	$(VENV)/bin/scopenet demo --output output/demo

test: install ## Run the fast tests (PYTEST_ARGS="-k head" adds options)
	$(BIN) -m pytest $(PYTEST_ARGS)

test-all: install ## Run all tests but those that need a GPU
	$(BIN) -m pytest -m "not cuda" $(PYTEST_ARGS)

test-faults: install ## Run the fault-injection suite in full (docs/reliability.md)
	SCOPENET_ALL_FAULTS=1 $(BIN) -m pytest tests/faults -m faults $(PYTEST_ARGS)

site: install ## Build the site of the documentation into build/site, and check its links
	rm -rf $(SITE) $(SITE)-source
	mkdir -p $(SITE)-source
	git ls-files -z --cached --others --exclude-standard -- $(SITE_FILES) \
	  | xargs -0 cp --parents --target-directory $(SITE)-source
	NO_MKDOCS_2_WARNING=1 SITE_SOURCE=$(SITE)-source $(BIN) -m mkdocs build --strict \
	  --site-dir $(abspath $(SITE))

dist: install ## Build wheel and sdist of the tagged commit into dist, the same bytes every time
	git describe --tags --exact-match --match "v$$($(BIN) setup.py --version)"
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN) -m build --outdir dist
	$(BIN) -m twine check --strict dist/*

matrix: $(MATRIX) ## Run the fast tests on Python 3.10 to 3.13 with the lowest and highest versions (needs uv)

$(MATRIX): matrix-%:
	uv venv --quiet --clear --seed --python $(firstword $(subst -, ,$*)) .venv-matrix
	uv pip install --quiet --python .venv-matrix --editable ".[dev]" \
	  --resolution $(subst lowest,lowest-direct,$(lastword $(subst -, ,$*)))
	$(MAKE) --no-print-directory detectron2 VENV=.venv-matrix
	.venv-matrix/bin/python -m pytest $(PYTEST_ARGS)

lint: install ## Check style, formatting and types
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m mypy

format: install ## Mend what can be mended by a program: imports, simple lint, formatting
	$(BIN) -m ruff check --fix .
	$(BIN) -m ruff format .

clean: ## Remove caches and build products (neither .venv nor output)
	rm -rf build dist scopenet.egg-info .mypy_cache .pytest_cache .ruff_cache
	find configs datasets projects scopenet tests -name __pycache__ -type d -exec rm -rf {} +

# A new interpreter may look for packages elsewhere: the stamp of the old one says nothing about it.
$(BIN):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python >= 3.10 is needed')"
	$(PYTHON) -m venv $(VENV)
	@rm -f $(STAMP)

# Written last, so an interrupted installation goes on where it stopped.
$(STAMP): setup.py pyproject.toml requirements-detectron2.txt
	$(if $(CPU),$(BIN) -m pip install --index-url $(CPU_INDEX) "torch>=2.8" "torchvision>=0.23")
	$(BIN) -m pip install --editable ".[dev]"
	@$(BIN) -c "import importlib.util as u; raise SystemExit(u.find_spec('detectron2') is None)" \
	  || $(MAKE) --no-print-directory detectron2
	@$(BIN) -c "import cv2" || { echo "OpenCV is installed but cannot be imported. On Debian or" \
	  "Ubuntu: apt-get install libgl1 libglib2.0-0 libx11-6"; exit 1; }
	@$(BIN) -W ignore -c "import torchvision" || { echo "torch and torchvision do not fit each" \
	  "other, as where pip has a further index: remove $(VENV), and run make install without" \
	  "CPU=1."; exit 1; }
	@$(BIN) -W ignore -c "import detectron2.engine, detectron2.model_zoo" || { echo "Detectron2 is" \
	  "installed but cannot be imported, and is left as it is: repair or uninstall it, then" \
	  "run make install again."; exit 1; }
	@touch $@

# By way of a folder of its own: the wheel also holds a top-level package `tools` and a compiled
# `_C` that fits one build of torch only. The move comes last, so it is there whole or not at all.
detectron2:
	rm -rf $(DETECTRON2)
	$(BIN) -m pip install --no-deps --only-binary=:all: --python-version 3.10 --require-hashes \
	  --target $(DETECTRON2) --requirement requirements-detectron2.txt
	rm $(DETECTRON2)/detectron2/_C.*
	site=$$($(BIN) -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
	  && cp -R $(DETECTRON2)/*.dist-info "$$site" && mv $(DETECTRON2)/detectron2 "$$site"
	rm -rf $(DETECTRON2)
