PYTHON ?= python3
.DEFAULT_GOAL := help

help: ## list the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

test: ## run the tests, slow ones in their short form
	$(PYTHON) -m pytest -m "not slow"

test-slow: ## run all tests in full
	$(PYTHON) -m pytest

lint: ## ruff, mypy, import layers, spelling
	.ci/lint

format: ## apply the formatter and the safe fixes
	ruff check --fix .
	ruff format .

.PHONY: help test test-slow lint format
