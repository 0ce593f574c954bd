# `make demo` and `make test` need nothing but Python 3.10 or newer: they set up their own .venv.
PYTHON ?= python3
VENV ?= .venv
# Where `make oldest` installs the oldest releases that setup.cfg admits.
OLDEST ?= .venv-oldest
# What `make notebooks` runs, and where it writes.
TUTORIALS := quickstart pretrain_your_own screening
NOTEBOOKS := docs/_build/notebooks
# Processes of the test run. Each computes on one thread, so this many cores are in use.
JOBS ?= 2
# Cases of `make fuzz`.
FUZZ ?= 10000
# More for pytest, such as PYTEST_FLAGS="-k graphs".
PYTEST_FLAGS ?=
# Where pip is to look for torch, such as TORCH_FLAGS="--index-url ADDRESS" with the address of PyTorch's CPU builds.
TORCH_FLAGS ?=

PY := $(VENV)/bin/python
# Its own file, and written last: a set-up that broke off half-way is done again.
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test oldest fuzz lint types tables docs notebooks linkcheck release clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(STAMP)  ## run examples/quickstart.py, which draws into examples/figures
	@echo "examples/quickstart.py: from a list of crystals to predictions, with and without pretraining"
	cd examples && $(abspath $(PY)) quickstart.py

test: lint types  ## lint, types, tests, and the examples in the docstrings
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) $(PYTEST_FLAGS)

oldest: $(OLDEST)/.installed  ## graphs, estimators and the contract with the oldest scikit-learn, skorch, pymatgen and numpy
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n $(JOBS) tests/graphs tests/estimators tests/contract $(PYTEST_FLAGS)

fuzz: $(STAMP)  ## 10,000 generated crystals and damaged files
	CRYSTALSSL_FUZZ=$(FUZZ) CRYSTALSSL_FUZZ_RESULTS=benchmarks/results/fuzz.csv OMP_NUM_THREADS=1 \
		$(PY) -m pytest tests/reliability/test_fuzz.py $(PYTEST_FLAGS)

lint: $(STAMP)  ## ruff, and the check of the documentation
	$(PY) -m ruff check .
	$(PY) -m ruff format --check --quiet .
	$(PY) docs/check.py

types: $(STAMP)  ## mypy on the package
	$(PY) -m mypy

tables: $(STAMP)  ## write the tables and figures of README and docs that benchmarks/results make
	$(PY) benchmarks/tables.py

docs: $(VENV)/.docs  ## the site in docs/_build/html, with the examples run; wants Python 3.11 or newer
	$(PY) docs/check.py
	OMP_NUM_THREADS=1 $(PY) -m sphinx -W --keep-going -b html docs docs/_build/html

notebooks: $(VENV)/.docs  ## the tutorials among the examples as executed notebooks, in docs/_build/notebooks
	rm -rf $(NOTEBOOKS) $(NOTEBOOKS).part
	mkdir -p $(NOTEBOOKS).part
	cp $(TUTORIALS:%=examples/%.py) $(NOTEBOOKS).part
	$(VENV)/bin/sphinx_gallery_py2jupyter $(NOTEBOOKS).part/*.py
	rm $(NOTEBOOKS).part/*.py
	OMP_NUM_THREADS=1 $(VENV)/bin/jupyter-execute --inplace $(NOTEBOOKS).part/*.ipynb
	mv $(NOTEBOOKS).part $(NOTEBOOKS)

linkcheck: $(VENV)/.docs  ## ask the web for every link of the site
	CRYSTALSSL_DOCS_QUICK=1 $(PY) -m sphinx --keep-going -b linkcheck docs docs/_build/linkcheck

release: $(STAMP)  ## wheel and sdist in empty environments of Python 3.10 to 3.13
	$(PY) tools/check_release.py

clean:  ## remove the virtual environment, builds and caches
	rm -rf $(VENV) $(OLDEST) .venv-matbench build dist *.egg-info compiled/build compiled/*.egg-info docs/_build docs/api docs/auto_examples .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find crystalssl tests docs examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Loops in C++, without which everything works as well, only slower.
COMPILED := $(wildcard compiled/*.py compiled/*.toml compiled/crystalssl_compiled/*)

$(STAMP): setup.cfg pyproject.toml constraints.txt $(COMPILED)
	@echo "Setting up $(VENV): a few minutes the first time"
	@rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(TORCH_FLAGS) -c constraints.txt torch
	$(PY) -m pip install --quiet -c constraints.txt -e '.[test]'
	@if command -v c++ >/dev/null && $(PY) -m pip install --quiet ./compiled; then :; else \
		echo "crystalssl-compiled is left out: it needs GCC or Clang. All works without it, and its tests are skipped."; fi
	@touch $@

$(VENV)/.docs: $(STAMP)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

# Without the networks that ours are compared with, which want newer releases.
$(OLDEST)/.installed: setup.cfg pyproject.toml constraints-oldest.txt
	@echo "Setting up $(OLDEST)"
	@rm -f $@
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet $(TORCH_FLAGS) -c constraints-oldest.txt torch
	$(OLDEST)/bin/python -m pip install --quiet -c constraints-oldest.txt -e '.[ase,parquet,plot]' \
		cloudpickle hypothesis numpydoc pytest pytest-xdist
	@touch $@
