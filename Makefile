# Set-up, run and test; `make` alone lists what there is.
PY := .venv/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run job rehearse test test-slow test-long test-faults test-peers test-all check-cluster check format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ARGS=... is passed on: make run ARGS='steps=50', make test ARGS='-k grpo -x'; LOCK=gpu sets up for CUDA"

setup: ## make or update .venv (nothing happens when it is up to date)
	@cluster/setup.sh

run: setup ## set up, then train the tiny CARE-GRPO recipe on this machine
	@$(PY) -m carerl.run recipe=care_grpo_tiny $(ARGS)

job: setup ## set up, then start a Ray head on this machine and run the tiny recipe as a job on it
	@cluster/local_job.sh $(ARGS)

rehearse: setup ## set up, then rehearse every recipe that trains; without a hub ARGS='model.path=DIR task.data_dir=DIR'
	@$(PY) -m carerl.rehearse $(ARGS)

check: setup
	@echo "== lint: ruff check" && $(PY) -m ruff check .
	@echo "== format: ruff format --check" && $(PY) -m ruff format --check .
	@echo "== types: mypy" && $(PY) -m mypy

test: check ## set up, then lint, format check, types and the default tests, in two processes
	@echo "== tests: pytest" && $(PY) -m pytest -n 2 --dist loadfile --durations=40 $(ARGS)

test-slow: setup ## the tests behind the markers slow, engine and e2e, in two processes
	@echo "== slow tests: pytest without the long ones" && $(PY) -m pytest -n 2 --dist loadfile --durations=40 -m "(slow or engine or e2e) and not long" $(ARGS)

test-long: setup ## what takes a minute or more a test: compiled layers, 135M models, nodes that come and go; 25 minutes
	@echo "== long tests: pytest -m long" && $(PY) -m pytest -n 2 --dist loadfile --durations=40 -m long $(ARGS)

test-faults: setup ## SIGKILL and SIGSTOP of every process of a real run, some ten minutes
	@echo "== faults: pytest -m faults" && $(PY) -m pytest -n0 -m faults tests/e2e/test_faults.py $(ARGS)

test-peers: setup ## losses against TRL, verl and OpenRLHF, calibration against netcal and torchmetrics (puts them into .peers)
	@cluster/setup_peers.sh
	@echo "== peers: pytest -m peers" && PYTHONPATH=.peers $(PY) -m pytest -m peers tests/peers $(ARGS)

test-all: ## make test, then make test-slow and make test-long
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-slow
	@$(MAKE) --no-print-directory test-long

check-cluster: setup ## render cluster/kuberay again and check it with kubectl, hadolint and shellcheck (in .tools)
	@cluster/check.sh $(ARGS)

format: setup ## mend what ruff can, and format
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

clean: ## remove caches and build outputs (keeps .venv and runs)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find carerl tests recipes cluster -name __pycache__ -type d -prune -exec rm -rf {} +
