# Everything from nothing: `make demo` starts the playground, `make test` passes all tests but those of `make test-pages`,
# which need a browser or a WebUI.

# The first Python that is new enough and not too new; `make PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
VENV ?= .venv
RUN = $(VENV)/bin/python
ARGS ?=

.PHONY: demo test test-pages fuzz lint bench clean need-python

demo: $(VENV)/.ready
	$(RUN) -m taesd_ext demo $(ARGS)

# A process for each of a few cores, with one thread each: they would only wait for one another.
test: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --maxprocesses 4 --dist worksteal -m "not e2e" $(ARGS)

test-pages: $(VENV)/.ready-test
	$(RUN) -m pytest tests/e2e -m e2e $(ARGS)

fuzz: $(VENV)/.ready-test
	$(RUN) tests/fuzz/run_fuzz.py $(ARGS)

lint: $(VENV)/.ready-test
	$(RUN) -m ruff check .

bench: $(VENV)/.ready-test
	$(RUN) -m taesd_ext bench $(ARGS)

$(VENV)/.ready: pyproject.toml .ci/setup.py | need-python
	$(PYTHON) .ci/setup.py $(VENV)
	@touch $@

$(VENV)/.ready-test: pyproject.toml .ci/setup.py | need-python
	$(PYTHON) .ci/setup.py $(VENV) test,lint
	@touch $@

need-python:
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11, 3.12 or 3.13 is needed: install one, or say make PYTHON=/path/to/python"; exit 1; }

clean:
	rm -rf $(VENV)
