# Three commands do everything: `make herd` runs the main job, `make test` runs types, lint and tests, and
# `make long` the long column of docs/reliability.md. All make their own virtual environment first; none needs
# root, nor anything but Python 3.11 or later.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: herd test long clean

herd: $(VENV)/bench.stamp
	$(BIN)/python bench/herd.py --output herd-output $(HERD_ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGS)

long: $(VENV)/dev.stamp
	KLANI_PROOF=long $(BIN)/python -m pytest -m proof --timeout 1800 $(PYTEST_ARGS)

$(VENV)/%.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) herd-output
