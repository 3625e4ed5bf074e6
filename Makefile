# Everything happens in .venv; each target sets it up first, which takes no time when it is up to date.
#
#   make ping     run 10,000 tasks on an embedded cluster
#   make test     all tests                  (PYTEST_ARGS="-k name" narrows them)
#   make lint     style, strict types, import contracts
#   make sim      simulate large worlds until told, of new seeds   (SIM_ARGS="--seed 1000 --tasks 50000"; failures: build/sim)
#   make mutants  break the engine on purpose, one place at a time: after how many seeds is it seen? (three minutes)
#   make chaos    break a real cluster 1,000 times, and judge what came of it (CHAOS_ARGS="--faults 200 --seed 7")
#   make power-cut  cut the power of a store after each write, unsynced data dropped at random (a quarter of an hour)
#   make fuzz     throw bytes at everything that reads what peers and users send (FUZZ_ARGS="--seconds 600 frames")
#   make bench    the table of docs/benchmarks.md; bench-quick for a short look
#   make wire     generate the protobuf code anew; make map the code map and the state tables
#   make lock     resolve requirements/dev.lock anew (needs uv)
#   make clean    remove .venv and everything generated

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTEST_PROCESSES ?= auto
PYTEST_ARGS ?=
BENCH_ARGS ?=
CHAOS_ARGS ?=
SIM_ARGS ?=
MUTANTS_ARGS ?=
POWER_CUT_ARGS ?=
FUZZ_ARGS ?=
CODE := src tests benchmarks $(wildcard tools examples)

.DEFAULT_GOAL := help
.PHONY: help setup ping test sim mutants chaos power-cut fuzz lint format bench bench-quick wire map lock clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 15

setup:
	@sh tools/setup.sh

ping: setup
	@$(BIN)/flmping -t 10000 --embedded

test: setup
	$(BIN)/python -m pytest -n $(PYTEST_PROCESSES) $(PYTEST_ARGS)

sim: setup
	@mkdir -p build/sim
	@$(BIN)/python -m flame.sim --until-told --seed $$(date +%s)000 --processes $$(nproc) \
	    --nodes 20 --sessions 20 --tasks 20000 --failures build/sim $(SIM_ARGS)

mutants: setup
	@$(BIN)/python -m tests.simulation.mutants $(MUTANTS_ARGS)

chaos: setup
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

power-cut: setup
	@$(BIN)/python -m tests.stores.power_cut $(POWER_CUT_ARGS)

fuzz: setup
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

lint: setup
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: setup
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-quick: setup
	@$(BIN)/python -m benchmarks --quick $(BENCH_ARGS)

wire: setup
	$(BIN)/python tools/generate_wire.py

map: setup
	$(BIN)/python tools/code_map.py
	$(BIN)/python tools/state_tables.py

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --group dev pyproject.toml \
	    --output-file requirements/dev.lock --custom-compile-command "make lock" --quiet $(LOCK_ARGS)

clean:
	rm -rf $(VENV) build dist benchmarks/results .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks $(wildcard tools examples) -name __pycache__ -prune -exec rm -rf {} +
