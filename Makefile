PYTHON ?= python3
.DEFAULT_GOAL := help

help: ## list the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

test: ## run the tests
	$(PYTHON) -m pytest

lint: ## ruff, mypy, import layers, spelling
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	codespell tracereplay tests benchmarks traces *.md

format: ## apply the formatter and the safe fixes
	ruff check --fix .
	ruff format .

.PHONY: help test lint format
