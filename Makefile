# What there is to do with this checkout. `make help` lists it.

PYTHON ?= python3
# Another Python gets an environment of its own.
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
BACKENDS := reference c_simd numba
RATINGS ?=
SEED ?= 20260101
ONLY ?=
ROWS ?=
PEERS ?=
SETS ?= portable
SECONDS ?= 60
SANITIZE ?=

.DEFAULT_GOAL := help
.PHONY: help install demo examples quick test conformance sanitize fuzz reports bench bench-pages check format docs layout clean

help:
	@echo "make demo                 train the same models on every backend: a table and a picture (out/demo.png)"
	@echo "make demo RATINGS=x.csv   the same on ratings of your own: columns user_id, item_id, rating"
	@echo "make examples             run all examples, on data that they generate, and print what they find as one table"
	@echo "make quick                the tests that are quick, on the default backend: for who is at work"
	@echo "make test                 all tests, and the conformance suite on every backend"
	@echo "make conformance          the conformance suite alone; SEED=5 draws other numbers"
	@echo "make sanitize             the C backend under sanitizers, and every failure in turn; SETS=avx512,avx2,portable chooses, SHORT=1 does less"
	@echo "make fuzz SECONDS=60      what breaks Wyrm, looked for at random; ONLY=feeds chooses targets, SEED=7 other cases"
	@echo "make fuzz SANITIZE=1      the same under the address sanitizer, once make sanitize has built the backend"
	@echo "make reports              the same on every variant of every backend, and their comparison: docs/conformance"
	@echo "make bench                the benchmarks and their page, docs/benchmarks.md; ONLY=\"w1 w2\" chooses"
	@echo "make bench PEERS=1        the same with programs by others, which are installed into out/peers"
	@echo "make bench-pages          the pages alone, from the results that the benchmarks have left"
	@echo "make check                formatting, lint and types"
	@echo "make format               put the formatting right"
	@echo "make docs                 write docs/reference.md anew, from the ops, kernels and optimizers that there are"
	@echo "make layout               write the fingerprint of the layout of programs into the native backends, once they are adapted"
	@echo "make install              everything into $(VENV), which the others do by themselves"
	@echo "make clean                remove $(VENV) and what was built"
	@echo
	@echo "PYTHON=python3.12 uses another Python, in an environment of its own."

# Sources that have to be built and installed; everything else is installed so that changes take effect at once.
SOURCES := $(shell find backends/c_simd_backend -name '*.[ch]' -o -name CMakeLists.txt -o -name '*.py') \
	$(wildcard pyproject.toml */pyproject.toml */*/pyproject.toml)

install: $(VENV)/installed

$(VENV)/installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Wyrm needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) --version). Try make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || { echo "Setting up $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing Wyrm and its backends into $(VENV) ..."
	@SKBUILD_CMAKE_DEFINE=WYRM_WERROR=ON $(BIN)/python -m pip install --quiet --group dev \
		-e . -e conformance -e backends/numba_backend ./backends/c_simd_backend
	@touch $@

demo: install
	@cd examples && PYTHONPATH= ../$(BIN)/python -m demo --output ../out $(if $(RATINGS),--ratings "$(abspath $(RATINGS))")

examples: install
	@PYTHONPATH= $(BIN)/python examples/run_all.py

quick: install
	@$(BIN)/python -m pytest -n auto --quick

test: install
	@$(BIN)/python -m pytest -n auto
	@$(MAKE) --no-print-directory conformance PYTHON=$(PYTHON) VENV=$(VENV)

conformance: install
	@for backend in $(BACKENDS); do $(BIN)/python -m wyrm_conformance --backend $$backend --seed $(SEED) || exit 1; echo; done

sanitize: install
	@$(BIN)/python tests/sanitize.py --sets $(SETS) $(if $(SHORT),--short)
	@$(if $(SHORT),,$(BIN)/python tests/inject_failures.py --backend c_simd)

fuzz: install
	@$(BIN)/python -m pip install --quiet --group fuzz
	@$(BIN)/python $(if $(SANITIZE),tests/sanitize.py --run) -m tests.fuzz --seconds $(SECONDS) --seed $(SEED) \
		$(if $(ONLY),--only "$(ONLY)")

reports: install
	@for backend in $(BACKENDS); do variant=; test $$backend = reference || variant="--variant all"; \
		$(BIN)/python -m wyrm_conformance --backend $$backend $$variant --seed $(SEED) \
			--report docs/conformance/$$backend.json || exit 1; done
	@{ echo "# Conformance of the backends"; echo; echo "Written by \`make reports\`; the reports themselves are beside this page."; echo; \
		$(BIN)/python -m wyrm_conformance compare $(BACKENDS:%=docs/conformance/%.json); } > docs/conformance/README.md

bench: install
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only "$(ONLY)") $(if $(PEERS),--peers) $(if $(ROWS),--rows $(ROWS)) \
		$(if $(RATINGS),--ratings "$(abspath $(RATINGS))")

bench-pages: install
	@$(BIN)/python -m benchmarks --again

check: install
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: install
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

layout: install
	@$(BIN)/python backends/write_layout.py

docs: install
	@$(BIN)/python docs/generate_reference.py

clean:
	@rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +
