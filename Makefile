# The two commands of VoxNAS: `make search` and `make test`. Each sets up what is missing (scripts/setup.sh), builds
# through the CMake presets and calls the executable; nothing is decided here.
#   make search                                 a phantom data set, searched in about two minutes
#   make search DATA=folder BUDGET=2h OUT=run   your data set
#   make test | build | setup | format | format-check | lint | floors | fuzz | bench | dist | clean
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

DATA ?=
BUDGET ?= 2m
OUT ?=
PRESET ?= release
VOXNAS := build/release/voxnas
# A LibTorch source takes 1.6 GB to compile: no more jobs at once than the memory carries.
JOBS ?= $(shell awk -v cores="$$(nproc)" '/^MemAvailable/ { n = int($$2 / 2.2e6); print n < 1 ? 1 : n < cores ? n : cores }' /proc/meminfo)
# Our own sources, also those not committed yet.
SOURCES = $(shell git ls-files -co --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh')

.PHONY: build setup tools search test format format-check lint floors fuzz bench bench-controllers dist experiments-readmes clean

setup:
	@scripts/setup.sh
tools:
	@scripts/setup.sh --tools

build: setup
	@log=$$(cmake --preset $(PRESET) 2>&1) || { printf '%s\n' "$$log"; exit 1; }
	@cmake --build --preset $(PRESET) -j $(JOBS)

# At the end: how many tests were skipped, and why. VOXNAS_ORACLES=required makes missing oracles failures.
SKIPPED := $(CURDIR)/build/skipped
test: build
	@rm -rf $(SKIPPED); mkdir -p $(SKIPPED)
	@code=0; VOXNAS_SKIPPED=$(SKIPPED) ctest --preset $(PRESET) || code=$$?; scripts/skipped.py $(SKIPPED); exit $$code

ifeq ($(DATA),)
search: build
	@rm -rf build/phantom build/phantom-run
	$(VOXNAS) phantom build/phantom --size 12x16x12
	$(VOXNAS) search build/phantom --budget $(BUDGET) -o "$(or $(OUT),build/phantom-run)"
else
search: build
	$(VOXNAS) search "$(DATA)" --budget $(BUDGET) -o "$(or $(OUT),run)"
endif

format: tools
	@clang-format -i $(SOURCES)
format-check: tools
	@clang-format --dry-run --Werror $(SOURCES)

# The floors of the house; then torch-free sources: LibTorch's headers take clang-tidy minutes a file. `make lint FILES="a.cpp b.cpp"` looks at these
# alone; what was found clean is remembered.
lint: tools floors
	@cmake --preset fast >/dev/null
	@scripts/lint.py build/fast $(FILES)

floors:
	@scripts/floors.py
	@scripts/lengths.py

SECONDS_EACH ?= 60
fuzz: tools
	@scripts/fuzz.sh $(SECONDS_EACH)

# build/voxnas-VERSION-linux-x86_64.tar.gz for machines that have LibTorch and nothing else of this.
dist: build
	@cmake --build --preset $(PRESET) -j $(JOBS) --target bench_kernels
	@scripts/dist.py build/$(PRESET) build/voxnas-$$(sed -n 's/^project(VoxNAS VERSION \([^ ]*\).*/\1/p' CMakeLists.txt)-linux-x86_64.tar.gz

# Regret and time of the controllers against Optuna's; installs Optuna from PyPI under build/.
bench-controllers: build
	@cmake --build --preset $(PRESET) -j $(JOBS) --target controllers_regret
	@experiments/bench/controllers/bench.py build/$(PRESET)

bench: build
	@cmake --build --preset $(PRESET) -j $(JOBS) --target bench
	@for program in $$(find build/$(PRESET)/experiments -name 'bench_*' -type f -executable); do $$program; done

# README.md of every task's folder, from the published figures and the plan.
experiments-readmes: build
	@for folder in experiments/task*/; do name=$$(basename $$folder); \
	  build/$(PRESET)/experiments/bin/experiment_$$name --readme > $$folder/README.md.new; \
	  mv $$folder/README.md.new $$folder/README.md; done

clean:
	rm -rf build
