"""What a plan promises: sizes and work by hand, the paper's shares, and the error on timings that were measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from optune.__main__ import main
from optune.config import load_config
from optune.plan.cost_model import (
    Lengths,
    Spread,
    expected_lengths,
    generation_seconds,
    judge_cost,
    kl_prompts_of,
    micro_batch_positions,
    offline_pairs,
    pair_flops,
    plan_run,
    shares,
    spread_of,
    trainable_parameters,
    training_bytes,
    training_pairs,
    training_seconds,
)
from optune.plan.hardware import MACHINES, MISTRAL_7B, shape_of
from optune.plan.measured_cost import fit, ledger_errors, measured, plan_measured
from optune.plan.nodes import accelerate_command, fitted, node_commands, training_command, training_script
from optune.plan.own_machine import OwnMachine, Speed, plan_here
from optune.plan.report import plan, read_timed
from optune.plan.shares import TABLE_1, engine_shares, least_rewarding, met, plain_batch, speedups
from optune.types import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def paper():
    return load_config("paper")


def stages(config, engine="plain", batch=32, gpus=8):
    return plan_run(config, MACHINES["a100"], 48_000, expected_lengths(config), Spread.even(gpus), engine, batch)


def test_sizes_are_those_of_real_checkpoints(random_llama):
    from transformers import AutoModelForCausalLM

    assert MISTRAL_7B.parameters == pytest.approx(7_241_732_096, rel=1e-4)  # as its model card counts
    model = AutoModelForCausalLM.from_pretrained(random_llama)
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert shape_of(str(random_llama)).parameters == sum(p.numel() for p in model.parameters()) - norms
    assert MISTRAL_7B.cache_bytes(1, 2) == 131_072


def test_work_by_hand():
    matrices = 32 * (4096 * 128 * (64 + 16) + 3 * 4096 * 14336) + 4096 * 32000
    assert MISTRAL_7B.flops(10, 100) == 10 * (2 * matrices + 4 * 32 * 4096 * 100)


def test_training_memory_is_twelve_bytes_a_parameter_and_sharded_but_for_the_whole_reference(paper):
    alone, two, eight = (training_bytes(MISTRAL_7B, paper, gpus) for gpus in (1, 2, 8))
    assert alone - two == pytest.approx(12 * MISTRAL_7B.parameters / 2)
    assert alone > MACHINES["a100"].memory > eight
    assert eight == 4 * MISTRAL_7B.parameters  # each process scores the reference with all of it first
    assert training_bytes(MISTRAL_7B, paper.with_overrides({"training.reference": "sft"}), 8) == 2 * eight
    whole = paper.with_overrides({"launch.config": "ddp"})
    assert training_bytes(MISTRAL_7B, whole, 8) == alone


def test_optimizers_and_loras_take_what_their_states_take(paper):
    def per_parameter(**changes):
        alone = paper.with_overrides({"launch": None, **{f"training.{k}": v for k, v in changes.items()}})
        return training_bytes(MISTRAL_7B, alone, 1) / MISTRAL_7B.parameters

    base = per_parameter()
    saved = {name: base - per_parameter(optimizer=name) for name in ("rmsprop_8bit", "adamw_torch", "adamw_8bit")}
    assert saved == pytest.approx({"rmsprop_8bit": 3 - 4 / 256, "adamw_torch": -4, "adamw_8bit": 2 - 8 / 256}, abs=1e-6)
    lora = base - per_parameter(lora={"r": 16})
    adapted = trainable_parameters(MISTRAL_7B, paper.with_overrides({"training.lora": {"r": 16}}))
    assert lora == pytest.approx(8 * (1 - adapted / MISTRAL_7B.parameters))


def test_a_loras_parameters_are_those_that_peft_counts(random_llama):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for names in ("all-linear", ["q_proj", "v_proj"]):
        config = load_config("paper", overrides=[f"training.lora={{r: 4, target_modules: {names}}}"])
        lora = LoraConfig(r=4, target_modules=names, task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(random_llama), lora)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trainable_parameters(shape_of(str(random_llama)), config) == trained


def test_a_micro_batch_is_a_token_budget_or_the_longest_pairs(paper):
    grouped = {"training.batching": "length_grouped", "training.micro_batch_tokens": None}
    shipped = grouped | {"training.batching": None}
    assert micro_batch_positions(paper) == 6144
    assert micro_batch_positions(paper.with_overrides(grouped)) == 4 * (512 + 2 * 512)
    assert micro_batch_positions(paper.with_overrides(shipped)) == 4 * 2 * (512 + 512)


def test_a_pair_in_one_row_has_the_prompt_once(paper):
    """By the positions that the trainer's own cutting counts."""
    from optune.training.pair_logprobs import place

    row = {"prompt_ids": [0] * 180, "chosen_ids": [0] * 300, "rejected_ids": [0] * 300}
    shipped = paper.with_overrides({"training.batching": None, "training.micro_batch_tokens": None})
    found = [pair_flops(MISTRAL_7B, c, Lengths(180, 300)) for c in (paper, shipped)]
    widths = [place(row, shared)[0] for shared in (True, False)]
    assert found[0] / found[1] == pytest.approx(widths[0] / widths[1], rel=0.05)  # but for attention


def test_training_is_its_passes(paper):
    """In units of a forward pass over all pairs: checkpointing, epochs, LoRA, and which pairs are scored before."""
    machine, lengths = MACHINES["a100"], Lengths(180, 300)
    unit = 1000 * pair_flops(MISTRAL_7B, paper, lengths) / machine.peak

    def passes(scored=None, **changes):
        config = paper.with_overrides({f"training.{name}": value for name, value in changes.items()})
        seconds = training_seconds(MISTRAL_7B, config, machine, 1000, lengths, scored) - machine.start_s
        return seconds / unit

    assert passes() == pytest.approx(1 / 0.5 + 4 / 0.4)
    assert passes(gradient_checkpointing=False, epochs=2) == pytest.approx(1 / 0.5 + 6 / 0.4)
    assert passes(scored=250) == pytest.approx(0.25 / 0.5 + 4 / 0.4)
    assert passes(lora={"r": 16}) == pytest.approx(1 / 0.5 + 3 / 0.4, rel=0.01)


def test_the_sampler_as_reference_saves_the_fresh_pairs_pass(paper):
    own = {s.iteration: s.seconds for s in plan_own(paper) if s.stage == "training"}
    sampled = {
        s.iteration: s.seconds
        for s in plan_own(paper.with_overrides({"training.fresh_reference": "sampler"}))
        if s.stage == "training"
    }
    saved = [own[t] - sampled[t] for t in range(4)]
    assert saved[0] > 0 and saved[1:] == pytest.approx([saved[0] / 2] * 3)


def test_offline_pairs_train_as_often_as_the_loop_has_them(paper, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a"}\n\n{"prompt": "b"}\n')
    pq.write_table(pa.table({"prompt": ["a", "b", "c"]}), tmp_path / "pairs.parquet")
    counts = {"pairs.jsonl": 2, "pairs.parquet": 3, "none.jsonl": None}
    for name, count in counts.items():
        assert offline_pairs(paper.with_overrides({"pairs.offline": str(tmp_path / name)})) == count
    assert offline_pairs(paper) == 0
    for view, expected in {"latest": [12, 12], "fresh": [12, 5], "all": [12, 17]}.items():
        config = paper.with_overrides({"pairs.view": view})
        assert [training_pairs(config, 10, t, offline=2) for t in (0, 1)] == expected
    away = paper.with_overrides({"pairs.offline": "elsewhere/pairs"})
    assert "leaves out the pairs of elsewhere/pairs" in plan(away)


def plan_own(config):
    """The stages of the configuration as it stands."""
    return plan_run(config, MACHINES["a100"], 48_000, expected_lengths(config))


def test_every_stage_is_on_the_gpus_that_the_configuration_uses(paper):
    assert spread_of(paper) == Spread.even(8)
    assert {s.stage: s.gpus for s in plan_own(paper)} == {"generation": 8, "rewarding": 8, "training": 8, "kl": 8}
    assert spread_of(load_config("small")) == Spread()
    changes = ["generation.engine=hf", "generation.workers=3", "reward.workers=2", "launch=process"]
    own = load_config("paper", overrides=changes)
    assert spread_of(own) == Spread(3, 2, 1)
    ray = ["generation.engine=ray", "generation.ray.workers=4", "generation.vllm.tensor_parallel_size=2"]
    assert spread_of(load_config("paper", overrides=ray)).generation == 8
    even = {(s.iteration, s.stage): s.seconds for s in stages(paper, "vllm", 256)}
    start = MACHINES["a100"].start_s
    for s in plan_own(paper.with_overrides({"reward.workers": 3})):
        if s.stage == "kl":
            continue  # samples and reads on the GPUs of generation
        assert s.seconds - start == pytest.approx((even[s.iteration, s.stage] - start) * 8 / s.gpus)


def paper_shares(paper, engine="plain", batch=None):
    batch = batch or plain_batch(paper, 8)
    return engine_shares(paper, MACHINES["a100"], 8, 48_000, expected_lengths(paper), engine, batch)


def test_plain_batched_generation_gives_the_papers_shares_within_a_quarter(paper):
    """But for rewarding; with the rows that the paper's training batch gives each GPU, fitted to nothing."""
    assert plain_batch(paper, 8) == 2 * 128 / 8
    found = paper_shares(paper)
    assert met(found) == ["generation", "training"]
    for phase in met(found):
        assert found[phase] == pytest.approx(TABLE_1[phase], rel=0.25)


def test_the_papers_way_is_compared_whatever_our_own_training_does(paper):
    """Table 1 is about two rows a pair; our one row makes training's share smaller beside the same generation."""
    changed = paper.with_overrides({"training.fresh_reference": "sampler", "training.micro_batch_tokens": 12288})
    assert paper_shares(changed) == paper_shares(paper)
    shipped = paper.with_overrides({"training.batching": None, "training.micro_batch_tokens": None})
    assert paper_shares(shipped) == paper_shares(paper)
    assert paper_shares(shipped, "vllm", 256)["training"] > paper_shares(paper, "vllm", 256)["training"]
    told = plan(paper)
    assert "plain: the paper's way, trained as TRL ships it, two rows a pair; hf, vllm: trained as configured" in told


def test_rewarding_cannot_take_a_thousandth(paper):
    """A forward pass of a 7B reward model over all responses takes longer, at the peak of the data sheet."""
    least = least_rewarding(paper, MACHINES["a100"], 8, 48_000, expected_lengths(paper))
    assert 10 * TABLE_1["rewarding"] < least < paper_shares(paper)["rewarding"]


def test_the_docs_say_what_selection_gains_with_plain_generation_and_with_vllm(paper):
    text = " ".join((ROOT / "docs" / "own_model.md").read_text("utf-8").split())
    for engine, batch in (("plain", 32), ("vllm", 256)):
        gains = speedups(paper_shares(paper, engine, batch))
        assert gains == sorted(gains, reverse=True) and min(gains) > 1
        assert ", ".join(f"{gain:.2f}" for gain in gains) in text
    eight, one = (
        shares(plan_own(config))["rewarding"] for config in (paper, paper.with_overrides({"reward.workers": None}))
    )
    told = f"{eight:.1%} of the paper preset's planned time, {one:.1%} on one GPU"
    assert told in text


def test_a_plan_prints_what_starts_the_run_and_its_training(paper):
    told = plan(paper)
    assert "\npython -m optune run --preset paper\n" in told
    command = training_command(paper.launch)
    assert f"Each training is {command}\n" in told and "one process" not in told
    from optune.training import launch

    own = launch.command(paper.launch, "JOB")
    port = own.index("--main_process_port")
    said = [word for k, word in enumerate(own) if k not in (port, port + 1)][3:]
    said[1] = str(Path(said[1]).relative_to(ROOT))
    assert command == " ".join(["accelerate launch", *said])


@pytest.mark.parametrize(
    ("preset", "changes", "gpus", "expected"),
    [
        ("paper", [], 8, ""),
        ("paper", [], 4, " generation.vllm.data_parallel_size=4 reward.workers=4 launch.processes=4"),
        ("paper", [], 1, " generation.vllm.data_parallel_size=1 reward.workers=null launch=null"),
        ("small", [], 1, ""),
        ("small", ["training.lora={r: 4}"], 2, " generation.vllm.data_parallel_size=2 reward.workers=2 "
         "launch.mode=accelerate launch.processes=2 launch.config=ddp"),
        ("small", ["generation.engine=hf", "training.learner=rloo"], 2, " generation.workers=2 reward.workers=2"),
    ],
)  # fmt: skip
def test_other_gpus_get_the_options_that_use_them(preset, changes, gpus, expected):
    config = load_config(preset, overrides=changes)
    (line,) = [line for line in plan(config, gpus=gpus).splitlines() if line.startswith("python -m optune run")]
    assert line.endswith(f"--preset {preset}{expected}")
    words = expected.split()
    used = spread_of(load_config(preset, overrides=[*changes, *words]))
    assert used.generation == used.rewarding == gpus and used.training == (
        1 if "training.learner=rloo" in changes else gpus
    )


def test_several_nodes_get_commands_that_their_programs_take(paper):
    """Every option is one of accelerate's own, the script is sh, and there is a worker for each GPU."""
    import shlex
    import subprocess

    from accelerate.commands.launch import launch_command_parser

    changes = fitted(paper, 3, 8)
    run = paper.with_overrides(changes)
    told = node_commands(run, changes, 3, 8, "--preset paper seed=1")
    assert told in plan(paper, nodes=3, arguments="--preset paper seed=1")
    assert "ray start --head --port=6379 --num-gpus=8" in told
    assert [f"node {k}:  ray start --address=NODE0:6379" in told for k in (0, 1, 2, 3)] == [False, True, True, False]
    words = shlex.split(accelerate_command(run.launch, 3).replace("$rank", "2"))[2:]
    taken = launch_command_parser().parse_args([*words, "-m", "optune.training.worker", "JOB"])
    assert (taken.num_machines, taken.num_processes, taken.machine_rank) == (3, 24, 2)
    assert (ROOT / taken.config_file).is_file()
    subprocess.run(["sh", "-n", "-c", training_script(run.launch, 3)], check=True)
    words = shlex.split(told.splitlines()[-1].split("optune run ")[1])
    assert load_config("paper", overrides=words[2:]) == run.model_copy(update={"seed": 1})
    assert (run.generation.ray.workers, run.launch.processes, run.launch.command) == (24, 24, "sh train.sh")
    assert spread_of(run) == Spread(24, 8, 24)
    split = paper.with_overrides({"generation.vllm.tensor_parallel_size": 4, "generation.engine": "vllm"})
    assert fitted(split, 3, 8)["generation.ray.workers"] == 6
    with pytest.raises(UserError, match="no multiple of generation"):
        fitted(split, 1, 6)
    with pytest.raises(UserError, match="not 'server'"):
        fitted(paper.with_overrides({"generation.engine": "server"}), 2, 8)


def test_faster_generation_leaves_less_to_gain(paper):
    everything = paper.with_overrides({"selection": {"strategy": "all", "ratio": 1.0}})
    generation = [
        shares(stages(everything, engine, batch))["generation"]
        for engine, batch in (("plain", 8), ("plain", 64), ("hf", 256), ("vllm", 256))
    ]
    assert generation == sorted(generation, reverse=True)


def test_only_what_is_regenerated_is_paid(paper):
    half = {(s.iteration, s.stage): s for s in stages(paper)}
    start = MACHINES["a100"].start_s
    ratio = (half[1, "generation"].seconds - start) / (half[0, "generation"].seconds - start)
    assert ratio == pytest.approx(0.5, abs=0.01)
    assert half[1, "training"].seconds == half[0, "training"].seconds
    static = stages(paper.with_overrides({"selection.strategy": "none"}))
    assert [s.seconds for s in static if s.iteration and s.stage in ("generation", "rewarding")] == [0.0] * 6


def test_the_kl_stage_is_planned_and_can_be_turned_off(paper, ledgers, monkeypatch):

    rows = measured(read_timed(ledgers))
    planned = {"paper": lambda: plan_own(paper), "tiny": lambda: plan_measured(load_config("tiny"), rows, 2048)}
    for stages_of in planned.values():
        kl = [s.seconds for s in stages_of() if s.stage == "kl"]
        assert len(kl) == 4 and min(kl) > 0 and len(set(kl)) == 1
    assert kl_prompts_of(paper, 48_000) == 256 and kl_prompts_of(paper, 12) == 12
    off = paper.with_overrides({"kl_prompts": 0})
    assert kl_prompts_of(off, 48_000) == 0 and not any(s.stage == "kl" for s in plan_own(off))


def test_a_plan_from_measured_speeds_is_work_by_speed(paper):
    own = OwnMachine("here", Speed(1, 100), Speed(2, 10), Speed(3, 5), 4000, Lengths(10, 20), True, 9)
    found = {(s.iteration, s.stage): s.seconds for s in plan_here(paper.with_overrides({"launch": None}), own, 1000)}
    assert found[0, "generation"] == 1 + 1000 * 2 * 20 / 100 and found[1, "generation"] == 1 + 500 * 2 * 20 / 100
    assert found[1, "rewarding"] == 2 + 500 * 2 / 10
    assert found[0, "training"] == found[1, "training"] == 3 + 1000 / 5
    assert found[0, "kl"] == 1 + 256 * 20 / 100 + 256 / 8 / 5
    assert own.sampling.seconds(0) == 0.0
    told = plan(paper, own=own)
    assert "Measured in 9 s on here: 100 tokens/s sampled, 10.0 rewards/s, 5.00 pairs/s trained" in told
    assert "A100" not in told and "Table 1" not in told
    with pytest.raises(UserError, match="leave out --gpus"):
        plan(paper, own=own, gpus=2)


def test_the_laptop_is_the_cpu_that_was_measured_and_gives_back_its_speeds():
    """The tiny policy on those two cores, within a quarter: its shares of the matrix product are those of this run."""
    bench = json.loads((ROOT / "results/bench/amd-epyc-avx512-2-cores.json").read_text())["models"]["tiny"]
    found = {}
    for part in ("distance", "sampling", "training"):
        for line in bench["measures"][part]["rows"]:
            found.setdefault(line["what"], line["ours"]["median"])
    laptop, config = MACHINES["laptop"], load_config("tiny")
    assert laptop.peak == pytest.approx(1e9 * found["machine: matrix product, fp32"], rel=0.01)
    assert laptop.bandwidth == pytest.approx(1e9 * found["machine: memory, read and written"], rel=0.01)
    shape, lengths = shape_of("sandbox:policy"), Lengths(12, 5.4)
    sampling = generation_seconds(shape, config, laptop, 1024, lengths, "hf", 512) - laptop.start_s
    training = training_seconds(shape, config, laptop, 1024, lengths) - laptop.start_s
    assert 1024 * 2 * 5.4 / sampling == pytest.approx(found["sampling, float32"], rel=0.25)
    assert 1024 / training == pytest.approx(found["preference training"], rel=0.25)
    told = plan(load_config("paper").with_overrides({"launch": None}), machine="laptop")
    assert "on one CPU with 2 cores" in told and "Table 1" not in told


def test_judge_calls_and_price(paper):
    cost = judge_cost(paper, Lengths(100, 200), {"gpt-4-0613": {"price_in": 30.0, "price_out": 60.0}})
    assert cost.calls == 300 * 2 * 4
    assert cost.price == pytest.approx((cost.tokens_in * 30 + cost.tokens_out * 60) / 1e6)
    assert judge_cost(paper, Lengths(100, 200), {}).price is None


def test_a_line_is_fitted_and_never_starts_below_zero():
    rows = [
        {"phase": phase, "work": w, "seconds": 2 + 3 * w, "arm": "ab"[w % 2]}
        for phase in ("generation", "rewarding", "training")
        for w in (1, 2, 3, 4)
    ]
    assert fit(rows)["training"] == pytest.approx((2, 3))
    assert max(ledger_errors(rows).values()) < 1e-9
    steep = [row | {"seconds": 3 * row["work"] - 1} for row in rows]
    assert fit(steep)["generation"][0] == 0.0


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory) -> Path:
    """Some of the raw results, as they lie."""
    folder = tmp_path_factory.mktemp("raw")
    for arm in ("wdpo-all-1.0", "wdpo-lowest_reward-0.3", "wdpo-random-0.5", "wdpo-none-1.0"):
        (folder / arm).mkdir()
        for seed in (0, 1):
            shutil.copy(ROOT / "results/tiny/raw" / arm / f"seed{seed}.json", folder / arm)
    return folder


def test_the_error_on_our_own_ledgers_is_known(ledgers):
    rows = measured(read_timed(ledgers))
    assert {row["arm"] for row in rows} == {"wdpo-all-1.0", "wdpo-lowest_reward-0.3", "wdpo-random-0.5"}
    assert all(0 < error < 1 for error in ledger_errors(rows).values())


def test_runs_made_for_the_clock_take_the_place_of_those_timed_in_passing(ledgers, tmp_path):
    shutil.copytree(ledgers, tmp_path / "raw")
    again = json.loads((ledgers / "wdpo-all-1.0" / "seed0.json").read_text())
    for times in again["timing"]["ledger"]:
        times["generation_s"] = 123.0
    path = tmp_path / "raw" / "seconds-wdpo-all-1.0" / "seed0.json"
    path.parent.mkdir()
    path.write_text(json.dumps({name: again[name] for name in ("config", "arm", "seed", "timing")}))
    rows = measured(read_timed(tmp_path / "raw"))
    assert {row["arm"] for row in rows} == {"wdpo-all-1.0"}
    assert {row["seconds"] for row in rows if row["phase"] == "generation"} == {123.0}


def test_the_plan_names_command_time_memory_disk_and_price(capsys, ledgers):
    arguments = ["--ledgers", str(ledgers), "--prices", str(ROOT / "eval/judges/prices.yaml")]
    assert main(["plan", "--preset", "paper", *arguments, "selection.ratio=0.3"]) == 0
    told = capsys.readouterr().out
    for part in (
        "python -m optune run --preset paper selection.ratio=0.3\n",
        "GPU-hours",
        "GB per GPU",
        "disk GB",
        "iteration 3 training",
        "make eval-lima PRESET=paper",
        "2,400 calls of gpt-4-0613",
        "fits on one A100",
        "the paper's Table 1",
        "within 25% of Table 1 are generation",
        "not rewarding",
        "with vLLM and our training, where little is left to save",
        "Error on",
    ):
        assert part in told


def test_the_sandbox_is_planned_from_its_ledgers(ledgers):
    with pytest.raises(UserError, match="--ledgers"):
        plan(load_config("tiny"))
    told = plan(load_config("tiny"), ledgers=ledgers)
    assert "the CPU that the ledgers are of" in told and "Table 1" not in told


def test_the_real_model_is_planned_from_its_own_ledgers_at_the_disk_that_its_policies_take():
    raw, config = ROOT / "results/smollm2/raw", load_config("smollm2")
    with pytest.raises(UserError, match="--ledgers results/smollm2/raw"):
        plan(config)
    rows = measured(read_timed(raw))
    assert all(error < 0.25 for error in ledger_errors(rows).values())
    kept = sum(stage.disk for stage in plan_measured(config, rows, config.prompts.limit))
    assert kept == pytest.approx(4 * 538e6, rel=0.01)  # policies of 538 MB, one of each iteration
    assert "Not counted: the world's own models" in plan(config, ledgers=raw)


def test_every_build_of_a_worlds_model_has_its_size():
    for name in ("sandbox:reward", "instructions:reward"):
        assert shape_of(f"{name}@1") == shape_of(name)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "paper", "--machine", "abacus"], "unknown 'abacus'"),
        (["--preset", "paper", "prompts.limit=null"], "say how many prompts"),
        (["--preset", "paper", "policy.model=./no-such-folder"], "size of './no-such-folder' is unknown"),
    ],
)
def test_what_cannot_be_planned_is_told(capsys, arguments, sentence):
    assert main(["plan", *arguments]) == 2
    assert sentence in capsys.readouterr().err
