"""WeightedDPOTrainer against TRL's own trainer, and what it refuses."""

from __future__ import annotations

import random

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from optune.config import LossConfig, TrainingConfig
from optune.training.dpo import train_dpo, training_arguments
from optune.training.job import TrainJob
from optune.training.reference import reference_columns, sequence_logprobs
from optune.training.weighted_trainer import WeightedDPOTrainer
from optune.types import UserError
from optune.utils.quiet import quiet_libraries

SETTINGS = TrainingConfig(learning_rate=1e-3, batch_size=8, micro_batch_size=8)


def rows(n: int, seed: int = 0) -> list[dict]:
    rng = random.Random(seed)
    ids = lambda: [rng.randrange(5, 100) for _ in range(rng.randrange(2, 9))]  # noqa: E731
    return [
        {
            "prompt_ids": ids(),
            "chosen_ids": ids(),
            "rejected_ids": ids(),
            "score_chosen": 1.0 + rng.random(),
            "score_rejected": rng.random(),
        }
        for _ in range(n)
    ]


@pytest.fixture
def model(random_llama):
    quiet_libraries()
    return AutoModelForCausalLM.from_pretrained(random_llama)


@pytest.fixture
def tokenizer(random_llama):
    return AutoTokenizer.from_pretrained(random_llama)


def with_reference(model, data: list[dict]) -> Dataset:
    columns = reference_columns(model, data, pad_id=0, batch_size=8)
    return Dataset.from_list([{**row, **extra} for row, extra in zip(data, columns, strict=True)])


class StockWithColumns(DPOTrainer):
    """TRL's trainer as shipped, given the same reference columns instead of computing them again."""

    def _precompute_ref_logps(self, dataset, *_):
        return dataset

    def _prepare_dataset(self, dataset, *_):
        return dataset


def test_weight_1_is_bit_identical_to_trls_trainer_after_several_steps(random_llama, tokenizer, tmp_path):
    weights = []
    for kind in ("stock", "ours"):
        model = AutoModelForCausalLM.from_pretrained(random_llama)
        data = with_reference(model, rows(40))
        arguments = training_arguments(SETTINGS, 0.1, 7, tmp_path / kind)
        arguments.precompute_ref_log_probs = True
        common = {"model": model, "args": arguments, "train_dataset": data, "processing_class": tokenizer}
        if kind == "stock":
            trainer = StockWithColumns(**common)
        else:
            trainer = WeightedDPOTrainer(**common, loss="dpo")
        trainer.train()
        assert trainer.state.global_step == 5
        weights.append(model.state_dict())
    start = AutoModelForCausalLM.from_pretrained(random_llama).state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], start[name]) for name in start)


def test_reference_columns_are_trls_own_reference_logprobs(model, tokenizer, tmp_path):
    data = rows(16)
    ours = reference_columns(model, data, pad_id=0, batch_size=5)
    stock_rows = [{k: v for k, v in row.items() if k.endswith("_ids")} for row in data]
    arguments = DPOConfig(
        output_dir=str(tmp_path),
        precompute_ref_log_probs=True,
        report_to="none",
        bf16=False,
        max_length=None,
        per_device_train_batch_size=4,
    )

    class Prepared(DPOTrainer):
        def _prepare_dataset(self, dataset, *_):
            return dataset

    stock = Prepared(
        model=model, args=arguments, train_dataset=Dataset.from_list(stock_rows), processing_class=tokenizer
    ).train_dataset
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        assert [row[name] for row in ours] == pytest.approx(stock[name], abs=1e-4)


def test_wdpo_scales_the_loss_and_keeps_every_metric_of_trls(random_llama, tokenizer, tmp_path):
    logs = {}
    for kind, loss in (("dpo", "dpo"), ("wdpo", "wdpo")):
        model = AutoModelForCausalLM.from_pretrained(random_llama)
        trainer = WeightedDPOTrainer(
            model=model,
            args=training_arguments(SETTINGS, 0.1, 7, tmp_path / kind),
            train_dataset=with_reference(model, rows(8)),
            processing_class=tokenizer,
            loss=loss,
            beta_2=0.0,
        )
        trainer.train()
        logs[kind] = trainer.state.log_history[0]
    assert logs["wdpo"]["loss"] == pytest.approx(logs["dpo"]["loss"] / 2, abs=1e-4)
    names = {f"{group}/{side}" for group in ("rewards", "logps", "logits") for side in ("chosen", "rejected")}
    assert names | {"rewards/margins", "rewards/accuracies", "entropy", "num_tokens"} <= set(logs["wdpo"])


def test_the_private_methods_we_rely_on_are_still_trls():
    for name in ("_compute_loss", "_prepare_dataset", "_precompute_ref_logps", "_set_signature_columns_if_needed"):
        assert name in vars(DPOTrainer)


@pytest.mark.parametrize(
    ("option", "value"),
    [("label_smoothing", 0.1), ("ld_alpha", 0.5), ("use_weighting", True), ("f_divergence_type", "forward_kl")],
)
def test_options_that_would_be_dropped_silently_are_refused(model, tokenizer, tmp_path, option, value):
    arguments = DPOConfig(output_dir=str(tmp_path), report_to="none", bf16=False, **{option: value})
    with pytest.raises(UserError, match=option):
        WeightedDPOTrainer(model=model, args=arguments, train_dataset=None, processing_class=tokenizer)


def test_training_raises_the_chosen_against_the_rejected(random_llama, tmp_path):
    data = rows(16)
    four_epochs = SETTINGS.model_copy(update={"epochs": 4})
    result = train_dpo(TrainJob(random_llama, random_llama, LossConfig(), 1.0, four_epochs, 0), data, tmp_path)
    assert result["loss_last"] < result["loss_first"]
    trained = AutoModelForCausalLM.from_pretrained(tmp_path)
    before = AutoModelForCausalLM.from_pretrained(random_llama)
    margins = []
    for policy in (before, trained):
        chosen = sequence_logprobs(policy, [(r["prompt_ids"], r["chosen_ids"]) for r in data], 0, 8)
        rejected = sequence_logprobs(policy, [(r["prompt_ids"], r["rejected_ids"]) for r in data], 0, 8)
        margins.append(sum(chosen) - sum(rejected))
    assert margins[1] > margins[0] + 1


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved(random_llama, tmp_path):
    data = rows(8)
    data[3]["score_chosen"] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        train_dpo(TrainJob(random_llama, random_llama, LossConfig(), 1.0, SETTINGS, 0), data, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_sequence_logprobs_do_not_depend_on_padding_and_order(model):
    data = [(r["prompt_ids"], r["chosen_ids"]) for r in rows(20)]
    together = sequence_logprobs(model, data, 0, 20)
    alone = [sequence_logprobs(model, [row], 0, 1)[0] for row in data]
    assert together == pytest.approx(alone, abs=1e-4)
    assert sequence_logprobs(model, data[::-1], 0, 3)[::-1] == pytest.approx(together, abs=1e-4)


def test_memory_is_pinned_only_for_a_gpu_and_several_gpus_in_one_process_are_refused(
    random_llama, tmp_path, monkeypatch
):
    arguments = training_arguments(SETTINGS, 0.1, 0, tmp_path)
    assert arguments.dataloader_pin_memory is arguments.bf16 is False and arguments.device.type == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=r"CUDA_VISIBLE_DEVICES.*launch\.mode=accelerate"):
        train_dpo(TrainJob(random_llama, random_llama, LossConfig(), 1.0, SETTINGS, 0), rows(8), tmp_path)
