# boneage: `make demo` and `make test` need only Python 3.11 or newer, git and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
# Extra words for pip, as an index with CPU builds of torch: make test PIP_FLAGS='--extra-index-url ...'
PIP_FLAGS ?=
INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS)

OUT ?= out/demo
DATA ?= ../shared/data/rsna
# What to assess in the demo: an image, a folder or a manifest (CSV). Empty: DATA's radiographs, else drawn hands.
IMAGES ?=
SEX ?=
PYTEST_FLAGS ?=
# More words for benchmarks/assess.py: make bench BENCH_FLAGS='--limit 10 --memory-images 0'
BENCH_FLAGS ?=
# More words for fire/fuzz.py and fire/chaos.py: make fuzz FUZZ_FLAGS='--inputs 500 --seed 8'
FUZZ_FLAGS ?=
CHAOS_FLAGS ?=
# For `make bundle`: pretrained weights; key points, boxes and graded crops that people marked; where runs go.
WEIGHTS ?= ../shared/weights
MARKED ?= ../shared/data
RUNS ?= runs
VERSION ?= 1.5.0

.PHONY: help demo test check audit fuzz chaos format bench bundle wheel clean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "boneage needs Python 3.11 or newer, and none was found on PATH"; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# A stamp is as new as the pyproject.toml that it was installed from, so a second run starts at once.
$(VENV)/installed-run: pyproject.toml | $(BIN)/python
	@echo "installing boneage (no torch; about a minute) ..."
	@$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing boneage with what training and the tests need (a few minutes) ..."
	@$(INSTALL) -e '.[train,dev,dicom,serve]'
	@touch $@ $(VENV)/installed-run

demo: $(VENV)/installed-run ## assess radiographs (IMAGES=path), print a table, write out/demo/report.html
	@$(BIN)/python scripts/demo.py --images '$(IMAGES)' --sex '$(SEX)' --data '$(DATA)' --out '$(OUT)'

test: $(VENV)/installed-dev ## install what the tests need and run them
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_FLAGS)

check: $(VENV)/installed-dev ## formatting, lint with a security scan, types, layers; the audit where there is a network
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/audit.py --if-reachable

audit: $(VENV)/installed-dev ## look every installed package up in the list of known vulnerabilities (needs a network)
	@$(BIN)/python scripts/audit.py

fuzz: $(VENV)/installed-dev ## try every reader with 10,000 damaged inputs (a quarter of an hour)
	@$(BIN)/python fire/fuzz.py $(FUZZ_FLAGS)

chaos: $(VENV)/installed-dev ## kill batch and server at 150 random moments, fill and lock their disks (half an hour)
	@$(BIN)/python fire/chaos.py $(CHAOS_FLAGS)

format: $(VENV)/installed-dev ## put the code in shape
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format .

bench: $(VENV)/installed-run ## time an assessment, stage by stage
	@$(BIN)/python benchmarks/assess.py '$(DATA)/labels.csv' $(BENCH_FLAGS)

bundle: $(VENV)/installed-dev ## train the shipped bundle anew (hours on two cores; goes on where it stopped)
	$(BIN)/boneage train hand_localisation --data $(DATA)/labels.csv --out $(RUNS)/finder --resume \
	  --set labels.landmarks=$(WEIGHTS)/hand_landmark_lite.tflite \
	  --set labels.backbone=$(WEIGHTS)/mobilenet_v2.imagenet.real_batchnorm_no_head.safetensors \
	  --set labels.keypoints=$(MARKED)/keypoints/hand_keypoints.csv \
	  --set labels.regions=$(MARKED)/roi_boxes/ossification_boxes.csv --set labels.unlabelled=$(MARKED)/unlabelled
	$(BIN)/boneage train hand_regression --config shipped --data $(DATA)/labels.csv --out $(RUNS)/age --resume \
	  --finder $(RUNS)/finder --set network.pretrained=$(WEIGHTS)/resnetv2_50.imagenet.stages_1_to_3.safetensors
	$(BIN)/boneage train graded_regions --config shipped --data $(DATA)/labels.csv --out $(RUNS)/grades --resume \
	  --finder $(RUNS)/finder --set network.pretrained=$(WEIGHTS)/resnetv2_50.imagenet.stages_1_to_3.safetensors \
	  --set prior.anchors=$(MARKED)/joints/labels.csv
	$(BIN)/boneage train age_intervals --config first --data $(DATA)/labels.csv --out $(RUNS)/intervals-first --resume \
	  --finder $(RUNS)/finder --set network.pretrained=$(WEIGHTS)/resnetv2_50.imagenet.stages_1_to_3.safetensors
	$(BIN)/boneage train age_intervals --config shipped --data $(DATA)/labels.csv --out $(RUNS)/intervals --resume \
	  --finder $(RUNS)/finder --set network.pretrained=$(WEIGHTS)/resnetv2_50.imagenet.stages_1_to_3.safetensors \
	  --set network.start_from=$(RUNS)/intervals-first
	$(BIN)/boneage train radius_subgrades --config shipped --data $(DATA)/labels.csv --out $(RUNS)/radius --resume \
	  --finder $(RUNS)/finder --set scores.pretrained=$(WEIGHTS)/mobilenetv2_100.imagenet.timm_pad_same.safetensors \
	  --set grades.table=$(RUNS)/grades/oof_grades.csv --set grades.given=rus_chn
	$(BIN)/boneage train region_clusters --config shipped --data $(DATA)/labels.csv --out $(RUNS)/clusters --resume \
	  --finder $(RUNS)/finder
	$(BIN)/boneage bundle $(RUNS)/finder $(RUNS)/age --grades $(RUNS)/grades --intervals $(RUNS)/intervals \
	  --radius-subgrades $(RUNS)/radius --region-clusters $(RUNS)/clusters \
	  --out $(RUNS)/bundle --version $(VERSION) \
	  --data '1,226 training radiographs of the RSNA Pediatric Bone Age Challenge 2017 (non-commercial research)'
	$(BIN)/boneage train consistency --data $(DATA)/labels.csv --bundle $(RUNS)/bundle --out $(RUNS)/consistency --resume
	$(BIN)/boneage bundle --extend $(RUNS)/bundle --consistency $(RUNS)/consistency \
	  --out src/boneage/bundles/standard --version $(VERSION)

wheel: $(VENV)/installed-run ## build the wheel into dist/
	@$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls -1 dist/*.whl

clean: ## remove what was built; .venv too
	rm -rf $(VENV) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
