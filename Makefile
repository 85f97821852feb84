# Two commands: `make demo` runs the laptop study end to end, `make test` passes the tests.
# Each sets up .venv by itself from requirements.lock; nothing but Python 3.11 or 3.12 and the package index is needed.

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11,$(shell $(p) -c '$(SUPPORTED)' 2>/dev/null && echo $(p))))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEMO := runs/redllm_vs_decllm_laptop
TPU := $(VENV)/tpu
FUZZ_SECONDS ?= 600
# Such as --seed=1 --turns=20, which tries the same inputs again; other ones each time by default.
FUZZ ?=
KILLS ?= 50
BEAM := .venv-beam
VERSIONS ?= oldest
RESOLUTION_oldest := lowest-direct
RESOLUTION_newest := highest
IS_QUICK := not slow and not coverage
QUICK := $(BIN)/python -m pytest -n 2 --dist worksteal -m "$(IS_QUICK)"
ONE_CORE := $(if $(shell command -v taskset),taskset --cpu-list 0)

.PHONY: demo test slow-test portable-test fuzz endurance tpu-test beam-test coverage-test hf eval beam isoflop lint lock docs \
	notebooks wheel-test bounds-test clean

demo: $(INSTALLED)
	$(BIN)/triarch sweep --study=experiments/redllm_vs_decllm/laptop.gin --output=$(DEMO)
	$(BIN)/triarch report --study=$(DEMO) --output=$(DEMO)/report.html
	@echo "exports: $(DEMO)/exports/"

# Says what the study costs, runs it, fits its laws: half an hour or more on two cores.
isoflop: $(INSTALLED)
	sh experiments/isoflop_laptop/reproduce.sh

test: $(INSTALLED) lint
	$(QUICK)

# The tests that take long: kills and resumptions, all cases of parity, whole flows.
slow-test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# The quick suite as other processors compute it: narrower vectors, other kernels of OpenBLAS, one thread. Each of the
# three takes as long as `make test`, or longer.
portable-test: $(INSTALLED)
	XLA_FLAGS=--xla_cpu_max_isa=AVX2 OPENBLAS_CORETYPE=Haswell OPENBLAS_NUM_THREADS=1 $(QUICK)
	XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 OPENBLAS_CORETYPE=Nehalem OPENBLAS_NUM_THREADS=2 $(QUICK)
	XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 $(ONE_CORE) $(BIN)/python -m pytest -m "$(IS_QUICK)"
# Bad files of every format that is read, other ones each time: reading one works or says in a line why not. What fails is
# stored below tests/fuzz/found, where `make test` reads it again.
fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz --seconds=$(FUZZ_SECONDS) $(FUZZ)

# What kill -9 at random moments costs train, prepare, sweep and export: half an hour.
endurance: $(INSTALLED)
	$(BIN)/python benchmarks/endurance.py --kills=$(KILLS)

# What the TPU compiler makes of training and decoding; no TPU is needed. libtpu is for Linux only, takes 700 MB and lies
# beside the environment, which other tests share; its versions are those that go with the jax of the lock.
tpu-test: $(TPU)/installed
	PYTHONPATH=$(CURDIR)/$(TPU) $(BIN)/python -m pytest -m tpu_compiler

$(TPU)/installed: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps --target $(TPU) 'libtpu>=0.0.42,<0.0.43'
	touch $@

beam-test: beam
	$(BEAM)/bin/python -m pytest tests/prepare/test_beam.py

# How often intervals hold the truth: half an hour.
coverage-test: $(INSTALLED)
	$(BIN)/python -m pytest -s -m coverage

# Adds PyTorch, transformers, peft and sentence-transformers, the references of the parity tests, which are skipped without
# them.
hf: $(VENV)/installed-hf

$(VENV)/installed-hf: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[hf]'
	touch $@

# Adds EleutherAI's lm-evaluation-harness, for `triarch evaluate --tasks`.
eval: $(VENV)/installed-eval

$(VENV)/installed-eval: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[eval]'
	touch $@

# Apache Beam needs older releases of a few packages than the lock has: its tests run in an environment of their own.
beam: $(BEAM)/installed

$(BEAM)/installed: $(INSTALLED)
	$(PYTHON) -m venv $(BEAM)
	grep -vE '^(numpy|pillow|protobuf|pyarrow)==' requirements.lock > $(BEAM)/constraints.txt
	$(BEAM)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--constraint $(BEAM)/constraints.txt --editable '.[beam,dev]'
	touch $@

# The documentation as a site, build/site/index.html; a link that leads nowhere is an error.
docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict --quiet

$(VENV)/installed-docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[docs]'
	touch $@

# Runs the notebooks from their first cell to the last, and keeps what they print.
notebooks: $(INSTALLED)
	$(BIN)/python -m tests.notebooks

# Builds sdist and wheel, and tests the installed wheel from outside the checkout.
wheel-test: $(INSTALLED)
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m tests.wheel.contents dist/*.whl
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		"$$(ls dist/*.whl)[tasks]" pytest
	mkdir -p build/outside && cp tests/wheel/smoke.py build/outside/test_smoke.py
	cd build/outside && TRIARCH_CHECKOUT=$(CURDIR)/src ../wheel/bin/python -m pytest -q -p no:cacheprovider \
		--rootdir=. -c /dev/null test_smoke.py

# The quick suite under the oldest and the newest versions that setup.py allows: make bounds-test VERSIONS=oldest
bounds-test:
	$(PYTHON) -m venv build/$(VERSIONS)
	build/$(VERSIONS)/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	build/$(VERSIONS)/bin/uv pip install --quiet --python build/$(VERSIONS)/bin/python \
		--resolution=$(RESOLUTION_$(VERSIONS)) --editable '.[dev]'
	build/$(VERSIONS)/bin/python -m pytest -n 2 --dist worksteal -m "$(IS_QUICK)"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

$(INSTALLED): requirements.lock setup.py
	@test -n "$(PYTHON)" || { echo "triarch needs Python 3.11 or 3.12 on PATH, or make PYTHON=/path/to/one" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# Resolves the bounded ranges of setup.py anew, for both Pythons at once.
lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet "uv>=0.9"
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" setup.py --output-file requirements.lock

clean:
	rm -rf $(VENV) $(BEAM) build dist runs
