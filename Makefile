# Two commands set everything up: `make train` and `make test`. Stamps in .venv mark finished steps, so a repeated call is
# instant and an interrupted installation is taken up again.
PYTHON ?= python3
# The pin keeps package indexes from resolving to a build with gigabytes of CUDA libraries; set TORCH=torch for a GPU.
TORCH ?= torch==2.13.0
VENV := .venv
PIP := $(VENV)/bin/python -m pip
# Two at a time, a file in one of them; tests/conftest.py names the groups.
WORKERS := --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: train test test-fast lint docs clean

train: $(VENV)/.core
	$(VENV)/bin/python -m genrec_pyg.train $(ARGS)

test: $(VENV)/.core $(VENV)/.test $(VENV)/.sparse $(VENV)/.triton
	$(VENV)/bin/python -m pytest $(WORKERS) $(ARGS)

# Without the tests that start processes or take more than five seconds, and without what is compiled for minutes; on two
# cores.
test-fast: $(VENV)/.core $(VENV)/.test
	$(VENV)/bin/python -m pytest -m "not slow" $(WORKERS) $(ARGS)

# Rules and layout of ruff everywhere, types of the foundations ([tool.mypy] in pyproject.toml names them).
lint: $(VENV)/.core
	$(PIP) install --quiet --editable ".[dev]"
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

docs: $(VENV)/.core
	$(PIP) install --quiet --editable ".[docs]"
	$(VENV)/bin/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/.core: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "$(TORCH)"
	$(PIP) install --quiet --editable ".[tensorboard]"
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) install --quiet --editable ".[test]"
	touch $@

# Compiled from source against the installed torch: minutes, once. The main job does not need them. Before the tests and
# not beside them: two compilers take two cores, as two workers do.
$(VENV)/.sparse: | $(VENV)/.core
	$(PIP) install --quiet setuptools wheel ninja
	PATH="$(abspath $(VENV)/bin):$$PATH" MAX_JOBS=2 $(PIP) install --no-build-isolation torch-scatter torch-sparse
	touch $@

# Interprets the kernels for CUDA on the CPU; where there is no build of it, their tests say that they were skipped.
$(VENV)/.triton: | $(VENV)/.core
	if $(PIP) install --quiet --editable ".[triton]"; then touch $@; fi
