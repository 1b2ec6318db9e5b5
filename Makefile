# The front door. Plain `make` lists the targets; `demo` and `test` install what they need by themselves.

PY := .venv/bin/python
STAMP := .venv/.installed
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test faults fuzz lint format bench ros ci clean distclean

help: ## list the targets
	@echo "ddpg_robot: train a torque-driven arm, export its actor, drive it over ROS 2."
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | awk -F'#' '{printf "%-18s %s\n", $$1, $$2}'
	@echo
	@echo "Options: FAST=1 (demo with the shipped policy), ARGS=... (passed on to pytest), PYTHON=python3.12"

install: $(STAMP) ## make .venv with everything at the pinned versions

$(STAMP): pyproject.toml constraints.txt .ci/install
	@.ci/install .venv
	@touch $@

demo: $(STAMP) ## train, evaluate, export, drive over ROS, write runs/demo/report.html (FAST=1: under 2 minutes)
	@$(PY) -m ddpg_robot.cli demo $(if $(filter-out 0,$(FAST)),--fast)

test: $(STAMP) ## run the tests
	@$(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

faults: $(STAMP) ## break a deployment in every way, 50 times each, and write docs/safety.md's table (an hour)
	@FAULT_TRIALS=50 FAULT_RESULTS=docs/benchmarks/faults.json $(PY) -m pytest tests/faults $(ARGS)

fuzz: $(STAMP) ## try 100,000 bad policy files and as many bad messages; `make test` tries 2,000 of each (half an hour)
	@FUZZ_MUTANTS=100000 $(PY) -m pytest -s --timeout 0 tests/fuzz $(ARGS)

lint: $(STAMP) ## ruff, strict types in the core, import rules
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

format: $(STAMP) ## let ruff rewrite what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(STAMP) ## time inference and the ROS loop on this machine
	$(PY) -m ddpg_robot.cli benchmark inference
	$(PY) -m ddpg_robot.cli benchmark loop

ros: $(STAMP) ## colcon build in ros2_ws
	@.ci/colcon-build ros2_ws

ci: ## what continuous integration runs
	@.ci/run

clean: ## remove caches and build folders, keep .venv and runs
	rm -rf build dist *.egg-info ros2_ws/build ros2_ws/install ros2_ws/log .coverage .coverage.* htmlcov
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv and runs too
	rm -rf .venv .venv-kilted runs
