PYTHON ?= python3
.DEFAULT_GOAL := help

help: ## list the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

test: ## run the tests but for slow ones and those of this machine's kernel
	$(PYTHON) -m pytest -m "not slow and not kernel"

test-slow: ## run all tests in full, but for those of this machine's kernel
	$(PYTHON) -m pytest -m "not kernel"

fuzz: ## a million damaged inputs through the readers (an hour), and hypothesis on top
	$(PYTHON) tests/fuzz_readers.py --inputs 50000
	TRACEREPLAY_FUZZ=2000 $(PYTHON) -m pytest -q tests/test_fuzz_readers.py
	TRACEREPLAY_FUZZ=2000 $(PYTHON) -m pytest -q -k "end_in_rows" tests/test_perf_data.py tests/test_foreign.py

test-nojit: ## run the tests with the kernels interpreted, where coverage and debuggers see them
	NUMBA_DISABLE_JIT=1 $(PYTHON) -m pytest -m "not slow and not kernel"

test-kernel: ## run what needs root and zswap on this machine's kernel, and leaves it as it was
	$(PYTHON) -m pytest -m kernel

lint: ## ruff, mypy, import layers, spelling
	.ci/lint

bench: ## print ratios against libcachesim and a textbook curve (minutes; pip install --group bench)
	$(PYTHON) -m benchmarks

bench-write: ## the same, and put the table into benchmarks/README.md
	$(PYTHON) -m benchmarks --write

docs: ## write the generated parts of README.md and notebooks/tables.md anew
	$(PYTHON) .ci/docs.py

agreement: ## model against kernel anew: make agreement RUNS='FOLDER…' (minutes)
	$(PYTHON) .ci/docs.py --agreement $(RUNS)

outputs: ## run the README's commands and write their outputs into it (minutes)
	$(PYTHON) .ci/docs.py --outputs

notebooks: ## run the notebooks and store what they show (minutes)
	$(PYTHON) .ci/docs.py --notebooks

picture: ## draw the README's picture anew (minutes)
	$(PYTHON) .ci/docs.py --picture

format: ## apply the formatter and the safe fixes
	ruff check --fix .
	ruff format .

.PHONY: agreement bench bench-write docs notebooks outputs picture help fuzz test test-slow test-nojit test-kernel lint format
