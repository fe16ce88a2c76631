# All commands of the project; `make` alone lists them. Each installs what it needs first.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo up down status logs clean test chaos check fmt bench bench-guard
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
# Stops commands that only make sense after another one, instead of installing half a system for them.
NEEDS_SETUP := @test -x $(PYTHON) || { echo "Nothing is set up here yet: run \`make setup\`." >&2; exit 2; }

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install what is missing: Debian packages, .venv with the locked Python packages
	@sh deploy/bootstrap.sh demo test bench

demo: ## send real mail through the whole pipeline on this machine, show what became of it, leave nothing running
	@sh deploy/bootstrap.sh demo
	@$(PYTHON) -m deploy.demo

up: ## start RabbitMQ, Postgres and all processes in the background (settings from the environment; SCALE="router=2")
	@sh deploy/bootstrap.sh demo
	@$(PYTHON) -m deploy.stack up

down: ## stop what `make up` started; data stay
	$(NEEDS_SETUP)
	@$(PYTHON) -m deploy.stack down

status: ## show the processes of `make up`: state, pid, uptime, CPU, memory, ports
	$(NEEDS_SETUP)
	@$(PYTHON) -m deploy.stack status

logs: ## follow the logs of `make up` (one service: make logs SERVICE=router)
	$(NEEDS_SETUP)
	@$(PYTHON) -m deploy.stack logs --service "$(SERVICE)"

clean: ## stop what `make up` started and delete its data
	$(NEEDS_SETUP)
	@$(PYTHON) -m deploy.stack clean

test: ## run all tests: unit, integration, pipeline (some: make test TESTS="tests/unit -k address")
	@sh deploy/bootstrap.sh test
	@$(PYTHON) -m pytest $(or $(TESTS),-q -n 3 --dist loadfile -m "not long")

chaos: ## run the tests of faults that take long: servers away and back, kills, other forms of what `make test` runs once
	@sh deploy/bootstrap.sh test
	@$(PYTHON) -m pytest -q -n 3 --dist loadfile -m long

check: ## check format, lint, types, dependencies between packages, house rules
	@sh deploy/bootstrap.sh check
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports
	@$(PYTHON) -m pytest -q tests/house

fmt: ## format the code and mend what lint can mend
	@sh deploy/bootstrap.sh check
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

bench: ## measure against Postfix on this machine (ARGS=--help)
	@sh deploy/bootstrap.sh bench
	@$(PYTHON) -m tests.bench $(ARGS)

bench-guard: ## fail when we have become slower than docs/bench.json has it, compared with Postfix and Celery (ARGS=--help)
	@sh deploy/bootstrap.sh bench
	@$(PYTHON) -m tests.bench.guard $(ARGS)
