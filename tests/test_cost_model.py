"""What a plan promises: sizes and work by hand, the paper's shares, and the error on timings that were measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from optune.__main__ import main
from optune.config import load_config
from optune.cost_model import (
    MACHINES,
    MISTRAL_7B,
    Lengths,
    expected_lengths,
    judge_cost,
    plan_run,
    shape_of,
    shares,
    training_bytes,
)
from optune.measured_cost import fit, ledger_errors, measured
from optune.plan import plan, read_timed
from optune.plan_nodes import accelerate_command, node_commands, training_script
from optune.plan_shares import TABLE_1, engine_shares, least_rewarding, met, plain_batch, speedups
from optune.types import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def paper():
    return load_config("paper")


def stages(config, engine="plain", batch=32, gpus=8):
    return plan_run(config, MACHINES["a100"], gpus, 48_000, expected_lengths(config), engine, batch)


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


def test_training_memory_is_twelve_bytes_a_parameter_and_sharded(paper):
    alone, eight = (training_bytes(MISTRAL_7B, paper, gpus) for gpus in (1, 8))
    assert alone - eight == pytest.approx(12 * MISTRAL_7B.parameters * 7 / 8)
    assert alone > MACHINES["a100"].memory > eight


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


def test_rewarding_cannot_take_a_thousandth(paper):
    """A forward pass of a 7B reward model over all responses takes longer, at the peak of the data sheet."""
    least = least_rewarding(paper, MACHINES["a100"], 8, 48_000, expected_lengths(paper))
    assert 10 * TABLE_1["rewarding"] < least < paper_shares(paper)["rewarding"]


def test_the_readme_says_what_selection_gains_with_plain_generation_and_with_vllm(paper):
    readme = (ROOT / "README.md").read_text()
    for engine, batch in (("plain", 32), ("vllm", 256)):
        gains = speedups(paper_shares(paper, engine, batch))
        assert gains == sorted(gains, reverse=True) and min(gains) > 1
        assert ", ".join(f"{gain:.2f}" for gain in gains) in readme


def test_several_nodes_get_commands_that_their_programs_take(paper):
    """Every option is one of accelerate's own, the script is sh, and there is a worker for each GPU."""
    import shlex
    import subprocess

    from accelerate.commands.launch import launch_command_parser

    told = node_commands(paper, 3, 8)
    assert "ray start --head --port=6379 --num-gpus=8" in told
    assert [f"node {k}:  ray start --address=NODE0:6379" in told for k in (0, 1, 2, 3)] == [False, True, True, False]
    words = shlex.split(accelerate_command(3, 8).replace("$rank", "2"))[2:]
    taken = launch_command_parser().parse_args([*words, "-m", "optune.train_worker", "JOB"])
    assert (taken.num_machines, taken.num_processes, taken.machine_rank) == (3, 24, 2)
    subprocess.run(["sh", "-n", "-c", training_script(3, 8)], check=True)
    assert "generation.ray.workers=24" in told and "launch.processes=24" in told
    words = shlex.split(told.splitlines()[-1].split("optune run ")[1])
    run = load_config("paper", overrides=words[2:])
    assert (run.generation.ray.workers, run.launch.processes, run.launch.command) == (24, 24, "sh train.sh")
    assert (ROOT / "optune/presets/accelerate" / f"{run.launch.config}.yaml").is_file()
    split = paper.with_overrides({"generation.vllm.tensor_parallel_size": 4, "generation.engine": "vllm"})
    assert "generation.ray.workers=6" in node_commands(split, 3, 8)
    with pytest.raises(UserError, match="not 'server'"):
        node_commands(paper.with_overrides({"generation.engine": "server"}), 2, 8)


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
    assert [s.seconds for s in static if s.iteration and s.stage != "training"] == [0.0] * 6


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
        "python -m optune run --preset paper",
        "GPU-hours",
        "GB per GPU",
        "disk GB",
        "iteration 3 training",
        "make eval-lima PRESET=paper",
        "2,400 calls of gpt-4-0613",
        "does not fit on one A100",
        "the paper's Table 1",
        "within 25% of Table 1 are generation",
        "not rewarding",
        "with vLLM, where little is left to save",
        "Error on",
    ):
        assert part in told


def test_the_sandbox_is_planned_from_its_ledgers(ledgers):
    with pytest.raises(UserError, match="--ledgers"):
        plan(load_config("tiny"))
    told = plan(load_config("tiny"), ledgers=ledgers)
    assert "the CPU that the ledgers are of" in told and "Table 1" not in told


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
