# make demo   everything that is needed for, and the first image
# make test   everything that the tests need, and all tests
# make lint   style, types, import rules
# make bench  benchmarks at a small scale beside buildah
# make ci     all of these, the packages and the conformance suite

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo
NATIVE := $(filter-out src/_native/%.c,$(wildcard src/_native/*)) $(wildcard src/_native/*_impl.c)

.PHONY: demo test lint bench packaging ci clean tools

demo: $(VENV)/.installed $(DEMO)/base/index.json
	$(BIN)/pybuild --context examples/hello --dockerfile examples/hello/Dockerfile \
	    --build-context base=oci-layout://$(DEMO)/base --build-arg NAME=world \
	    --no-push --oci-layout-path $(DEMO)/hello
	@echo
	@$(BIN)/python examples/hello/show_image.py $(DEMO)/hello

test: $(VENV)/.dev tools
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	ci/lint

bench: $(VENV)/.dev tools
	ci/bench

packaging: $(VENV)/.dev
	ci/packaging

ci:
	.ci/run

tools:
	@ci/install-packages test

$(DEMO)/base/index.json: examples/hello/make_base.py
	@ci/install-packages busybox
	@rm -rf $(DEMO)/base
	@mkdir -p $(DEMO)
	$(BIN)/python examples/hello/make_base.py $(DEMO)/base

# the Python modules are used from src, so that only these files ask for a new installation
$(VENV)/.installed: pyproject.toml setup.py $(NATIVE)
	@ci/install-packages python
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed pyproject.toml
	$(BIN)/python ci/dev_requirements.py | $(BIN)/pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	@touch $@

clean:
	rm -rf build dist $(DEMO) .mypy_cache .ruff_cache .pytest_cache
	rm -f src/_native/*.so $(patsubst %.pyx,%.c,$(wildcard src/_native/*.pyx))
