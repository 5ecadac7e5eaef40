"""LoRA, `report_to`, the exported policy with its card, and what `keep: last` and `clean-runs` free."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from optune.__main__ import main
from optune.config import LossConfig, RunConfig, TrainingConfig, load_config
from optune.finished.audit import audit_run
from optune.finished.clean import spare
from optune.finished.export import export_policy, model_card
from optune.loop.algorithm import run_optune
from optune.store import hash_files
from optune.types import UserError
from optune.utils.files import read_json, read_yaml

ROOT = Path(__file__).resolve().parents[1]
LORA = TrainingConfig(learning_rate=1e-3, batch_size=4, micro_batch_size=4, lora={"r": 4, "alpha": 8})
ROWS = [
    {
        "prompt_ids": [5 + i, 6, 7],
        "chosen_ids": [20 + i, 21, 1],
        "rejected_ids": [40, 41 + i],
        "score_chosen": 1.0,
        "score_rejected": 0.0,
    }
    for i in range(8)
]


def identities(stages: list[dict]) -> list[tuple]:
    return [(e["iteration"], e["stage"], e["key"], e["digest"], json.dumps(e["counts"])) for e in stages]


def reported(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds: (step, value) by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (run_dir / "reports" / run_dir.name).glob("events.out.tfevents*")
    read = EventAccumulator(str(events), size_guidance={"scalars": 0}).Reload()
    return {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, config: RunConfig):
    """A finished run that kept everything."""
    config = config.with_overrides({"prompts.limit": 16})
    run_dir = tmp_path_factory.mktemp("finished")
    return config, run_dir, run_optune(config, run_dir)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, config: RunConfig):
    """A finished run with LoRA that keeps only its last policy and reports to the real TensorBoard."""
    config = config.with_overrides(
        {"prompts.limit": 16, "training.lora": {"r": 4}, "keep": "last", "report_to": "tensorboard"}
    )
    run_dir = tmp_path_factory.mktemp("adapted")
    return config, run_dir, run_optune(config, run_dir)


def test_the_merged_policy_is_its_start_with_the_adapter_on_top(random_llama, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from optune.training.dpo import train_dpo
    from optune.training.job import TrainJob

    train_dpo(TrainJob(random_llama, random_llama, LossConfig(), 1.0, LORA, 3), ROWS, tmp_path / "a")
    start = AutoModelForCausalLM.from_pretrained(random_llama)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        before = start(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "a")(ids).logits
        stacked = PeftModel.from_pretrained(start, tmp_path / "a" / "adapter")(ids).logits
    torch.testing.assert_close(merged, stacked, atol=1e-5, rtol=1e-4)
    assert (merged - before).abs().max() > 1e-4
    assert {p.suffix for p in (tmp_path / "a").rglob("*") if "model" in p.name} == {".safetensors"}
    train_dpo(TrainJob(random_llama, random_llama, LossConfig(), 1.0, LORA, 3), ROWS, tmp_path / "b")
    assert hash_files(tmp_path / "a") == hash_files(tmp_path / "b")  # from its seed alone, wherever it lies


def test_each_iteration_saves_adapter_and_merged_policy(adapted):
    _, _, result = adapted
    for policy in map(Path, result.policies):
        record = read_json(policy / "stage.json")["files"]
        assert {"model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"} <= set(record)
        base = read_json(policy / "adapter" / "adapter_config.json")["base_model_name_or_path"]
        assert "/" not in base
    assert result.stages[-1]["counts"]["kl_to_sft"] is not None


def test_tensorboards_reader_finds_every_update_and_every_stage_with_rising_steps(adapted):
    config, run_dir, result = adapted
    found = reported(run_dir)
    assert all([step for step, _ in told] == sorted(step for step, _ in told) for told in found.values())
    trained = [e for e in result.stages if e["stage"] == "train"]
    updates = sum(e["counts"]["updates"] for e in trained)
    assert len(found["train/learning_rate"]) == updates == max(step for step, _ in found["train/learning_rate"])
    assert len(found["train/rewards/margins"]) == updates
    assert len(found["train_summary/rewards/margins"]) == len(trained)
    assert all(len({step for step, _ in told}) == len(told) for name, told in found.items() if name.startswith("train"))
    assert [value for _, value in found["iteration"]] == [e["iteration"] for e in result.stages]
    for name in ("generate/tokens", "score/reward_mean", "train/updates"):
        stage, count = name.split("/")
        expected = [e["counts"][count] for e in result.stages if e["stage"] == stage]
        assert [value for _, value in found[name]] == pytest.approx(expected)
    for stage in ("generate", "score", "train"):
        seconds = [e["timing"]["wall_s"] for e in result.stages if e["stage"] == stage]
        assert [value for _, value in found[f"{stage}/seconds"]] == pytest.approx(seconds, abs=1e-3)
    (file,) = (run_dir / "reports").rglob("hparams.yml")
    options = read_yaml(file)
    assert options["training.lora.r"] == 4 and options["seed"] == config.seed


def test_a_continued_run_tells_tensorboard_only_of_what_is_new(config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reporting = config.with_overrides({"prompts.limit": 16, "report_to": "tensorboard"})

    def stop(entry):
        if (entry["iteration"], entry["stage"]) == (0, "pairs"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_optune(reporting, tmp_path / "run", on_stage=stop)
    result = run_optune(reporting, tmp_path / "run")
    told = []
    for events in (tmp_path / "run" / "reports" / "run").glob("events.out.tfevents*"):
        read = EventAccumulator(str(events), size_guidance={"scalars": 0}).Reload()
        told += [e.value for e in read.Scalars("iteration")]
    assert sorted(told) == [e["iteration"] for e in result.stages]


@pytest.mark.slow
def test_trackio_has_every_stage_of_a_run_in_a_process_of_its_own(config, tmp_path):
    """The real package; in a fresh process, where nobody has set accelerate's state before it."""
    pytest.importorskip("trackio")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config.model_dump(exclude_none=True)))
    command = [sys.executable, "-m", "optune", "run", "--config", tmp_path / "mine.yaml", "--run-dir", tmp_path / "run"]
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}
    done = subprocess.run([*command, "report_to=trackio"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with sqlite3.connect(tmp_path / "trackio" / "optune.db") as numbers:
        told = [json.loads(row) for (row,) in numbers.execute("select metrics from metrics")]
    stages = read_json(tmp_path / "run" / "manifest.json")["stages"]
    rewards = [entry["counts"]["reward_mean"] for entry in stages if entry["stage"] == "score"]
    assert [row["score/reward_mean"] for row in told if "score/reward_mean" in row] == pytest.approx(rewards)
    assert sum("train/learning_rate" in row for row in told) == sum(
        entry["counts"]["updates"] for entry in stages if entry["stage"] == "train"
    )


def test_an_unknown_tracker_is_told_before_anything_is_computed(config, tmp_path):
    with pytest.raises(UserError, match=r"unknown 'tensorbord'; known: .*tensorboard"):
        run_optune(config.with_overrides({"report_to": "tensorbord"}), tmp_path)
    assert not (tmp_path / "stages").exists()


def test_keep_last_frees_earlier_policies_and_a_second_call_makes_nothing(adapted):
    config, run_dir, result = adapted
    weights = [sorted(p.name for p in Path(policy).rglob("*.safetensors")) for policy in result.policies]
    assert weights == [[], ["adapter_model.safetensors", "model.safetensors"]]
    elsewhere = {"report_to": None, "keep": None, "generation.server.base_url": "http://127.0.0.1:9/v1"}
    again = config.with_overrides(elsewhere)  # nothing of this says anything about the results
    reused = []
    second = run_optune(again, run_dir, on_stage=lambda entry: reused.append(entry["reused"]))
    assert all(reused) and identities(second.stages) == identities(result.stages)


def test_the_audit_passes_over_weights_that_were_freed_and_nothing_else(adapted):
    _, run_dir, result = adapted
    assert audit_run(run_dir).problems == []
    config_file = Path(result.policies[0]) / "config.json"
    before = config_file.read_bytes()
    config_file.unlink()
    assert any("config.json is missing" in problem for problem in audit_run(run_dir).problems)
    config_file.write_bytes(before)


def test_keep_last_and_a_shared_store_do_not_go_together(finished, tmp_path):
    config, run_dir, _ = finished
    with pytest.raises(UserError, match="keep: last"):
        run_optune(config.with_overrides({"keep": "last"}), tmp_path, store=run_dir / "stages")


def test_clean_runs_names_what_it_frees_frees_it_when_told_and_loses_no_result(finished, tmp_path, capsys):
    config, run_dir, first = finished
    left = run_dir / "stages" / "train" / ".abc.tmp"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"x" * 100)
    earlier = Path(first.policies[0])
    size = (earlier / "model.safetensors").stat().st_size
    assert {(item.path, item.size) for item in spare(run_dir)} == {(earlier, size), (left, 100)}
    assert main(["clean-runs", "--runs", str(run_dir.parent)]) == 0
    told = capsys.readouterr().out
    assert str(earlier) in told and "would be freed" in told and left.exists()
    assert main(["clean-runs", "--runs", str(run_dir), "--yes"]) == 0
    assert not left.exists() and not list(earlier.glob("*.safetensors")) and spare(run_dir) == []
    assert (Path(first.policies[-1]) / "model.safetensors").exists()
    reused = []
    second = run_optune(config, run_dir, on_stage=lambda entry: reused.append(entry["reused"]))
    assert all(reused) and identities(second.stages) == identities(first.stages)


def test_a_freed_stage_that_is_changed_otherwise_is_still_noticed(tmp_path):
    from optune.store import StageStore, content_hash, intact, prune
    from optune.utils.files import write_text

    def build(folder):
        for name in ("model.safetensors", "config.json"):
            write_text(folder / name, name)
        return {}

    folder = StageStore(tmp_path).run("train", build, fields={}, inputs={}).path
    before = content_hash(folder)
    assert prune(folder) == len("model.safetensors") and prune(folder) == 0
    assert intact(folder) and content_hash(folder) == before
    (folder / "config.json").write_text("other")
    assert not intact(folder)


def test_the_exported_policy_loads_and_its_card_says_how_it_was_made(finished, tmp_path):
    from huggingface_hub import ModelCard
    from transformers import AutoModelForCausalLM

    config, _, result = finished
    folder = export_policy(result.policies[-1], result.stages, config, tmp_path)
    AutoModelForCausalLM.from_pretrained(folder)
    assert not (folder / "stage.json").exists()
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers" and "optune" in card.data.tags and not card.data.base_model
    text = (folder / "README.md").read_text()
    assert "lowest_reward, ratio 0.5" in text and str(tmp_path.parent) not in text and "| 1 | 8 |" in text
    (folder / "README.md").write_text("mine")
    assert export_policy(result.policies[-1], result.stages, config, tmp_path) == folder
    assert (folder / "README.md").read_text() == "mine"
    export_policy(config.policy.model, result.stages, config, tmp_path)  # another policy
    assert (folder / "README.md").read_text() != "mine"


def test_a_card_names_hub_models_and_data():
    card = model_card([], load_config("paper"))
    assert "base_model: alignment-handbook/zephyr-7b-sft-full" in card
    assert "- HuggingFaceH4/ultrachat_200k" in card


def test_options_younger_than_the_results_are_no_part_of_recorded_configurations():
    result = json.loads((ROOT / "results/tiny/raw/wdpo-all-1.0/seed0.json").read_text())
    now = load_config("tiny", overrides=["selection.strategy=all", "selection.ratio=1"]).model_dump()
    names = {"training": now["training"], "generation": now["generation"], "policy": now["policy"]}
    assert {section: set(values) for section, values in names.items()} == {
        section: set(result["config"][section]) for section in names
    }
    assert set(now) - {"seed"} == set(result["config"])
