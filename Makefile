# make demo and make test do their own set-up; PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/digits

.PHONY: demo test test-slow test-exhaustive test-programs test-lowest test-orbax lint types bench wheel docs clean

demo: $(VENV)/installed ## train on real handwritten digits, restore the best, evaluate it
	@$(BIN)/python train.py --config configs/digits.py --workdir $(RUN)
	@$(BIN)/python -m flax_resnet eval $(RUN)

PYTEST := -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-dev ## the quick tests, a process for each core
	@$(BIN)/python $(PYTEST) $(ARGS)

test-slow: $(VENV)/installed-dev ## the tests marked slow, a process for each core
	@$(BIN)/python $(PYTEST) -m slow $(ARGS)

test-exhaustive: $(VENV)/installed-dev ## every row of every table
	@$(BIN)/python -m pytest -m exhaustive $(ARGS)

# On top of .venv: only the compiler is added, 400 MB in some ten seconds. It is not in .venv, where
# jax would look for GPUs. The TPU's takes minutes for each program.
.venv-aot/installed: $(VENV)/installed-dev
	@$(PYTHON) -m venv .venv-aot
	@.venv-aot/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) --no-deps \
	  jax-cuda13-plugin jax-cuda13-pjrt
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-aot/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@touch $@

test-programs: .venv-aot/installed ## two of the programs that are compiled for a GPU without one
	@.venv-aot/bin/python -m pytest -m slow tests/benchmarks/peers/test_aot_programs.py \
	  -k "limits and (resnet50-folded-1 or cifar_resnet20-train)"

test-lowest: ## the quick tests with the lowest versions that pyproject.toml allows
	@$(MAKE) --no-print-directory test VENV=$(VENV)-lowest CONSTRAINTS=.ci/lowest.txt

# On top of .venv: only Orbax is replaced, by the newest that pyproject.toml allows.
test-orbax: $(VENV)/installed-dev ## checkpoints with the newest Orbax below 1.0
	@$(BIN)/python -m venv .venv-orbax
	@.venv-orbax/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps \
	  'orbax-checkpoint<1'
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-orbax/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@.venv-orbax/bin/python -c 'from importlib.metadata import version; print("orbax-checkpoint", version("orbax-checkpoint"))'
	@.venv-orbax/bin/python -m pytest tests/training/checkpoints tests/training/test_full_disk.py \
	  tests/models/test_nnx.py $(ARGS)

lint: $(VENV)/installed-dev ## style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/installed-dev ## static types
	@$(BIN)/mypy

QUICK := benchmarks.peers.compile_time benchmarks.peers.memory benchmarks.peers.augmentation \
  benchmarks.peers.input_pipeline benchmarks.trainer.overhead benchmarks.trainer.checkpoint \
  benchmarks.trainer.startup benchmarks.trainer.scaling benchmarks.trainer.mixing \
  tests.endurance.kill tests.endurance.soak

bench: $(QUICK:%=bench-%) bench-train bench-inference bench-gpu ## every benchmark in its quick mode
# Only to check that they work, so compiling takes longer than running.
bench: export XLA_FLAGS := --xla_backend_optimization_level=0

bench-train bench-inference: bench-%: $(VENV)/installed-dev
	@$(BIN)/python -m benchmarks.peers.steps $* --quick

bench-%: $(VENV)/installed-dev
	@$(BIN)/python -m $* --quick

bench-gpu: $(VENV)/installed-dev
	@PYTHON=$(BIN)/python benchmarks/gpu.sh --tiny

wheel: $(VENV)/installed-dev ## build the wheel, install it where there is no checkout, and use it
	@.ci/installed $(BIN)/python

docs: $(VENV)/installed-dev ## the site of the documents and the reference, in site/
	@$(BIN)/zensical build --clean --strict

clean: ## remove what the targets above made, but no run
	rm -rf $(VENV) $(VENV)-lowest .venv-aot .venv-orbax .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info .cache site

CONSTRAINTS ?= constraints.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("found Python %d.%d, expected 3.11 or newer: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml $(CONSTRAINTS)
	@echo "installing into $(VENV) (about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@
