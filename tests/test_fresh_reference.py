"""Reference log-probabilities of fresh responses from their sampler; reused ones always computed again."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM

from optune.config import LossConfig, TrainingConfig, load_config
from optune.loop.algorithm import run_optune
from optune.training.dpo import train_dpo
from optune.training.job import TrainJob
from optune.training.reference import from_sampler, reference_columns
from optune.types import UserError

SAMPLER = {"training.fresh_reference": "sampler"}


def counts(result, stage: str) -> list[dict]:
    return [entry["counts"] for entry in result.stages if entry["stage"] == stage]


def test_only_fresh_responses_keep_their_samplers_logprobs_and_the_mismatch_is_told(config, tmp_path):
    result = run_optune(config.with_overrides(SAMPLER), tmp_path)
    trained, paired = counts(result, "train"), counts(result, "pairs")
    assert len(trained) == 2 and paired[1]["reused"] > 0
    for step, pairs in zip(trained, paired, strict=True):
        assert step["reference_sampled"] == pairs["pairs"] - pairs["reused"]
        assert step["reference_computed"] == pairs["reused"]
        assert 0 <= step["reference_mismatch_mean"] <= step["reference_mismatch_max"] < 1e-3


def test_training_on_the_samplers_reference_gives_the_losses_of_the_computed_one(config, tmp_path):
    config = config.with_overrides({"iterations": 0})
    results = [
        run_optune(config.with_overrides(changes), tmp_path / name) for name, changes in (("a", {}), ("b", SAMPLER))
    ]
    computed, sampled = (counts(result, "train")[0] for result in results)
    assert sampled["loss_last"] == pytest.approx(computed["loss_last"], abs=1e-4)
    assert not any(name.startswith("reference_") for name in computed)


def rows_with(model, known: list[bool], error: float = 0.0) -> list[dict]:
    rows = [
        {"prompt_ids": [5, 6, 7], "chosen_ids": [8 + i, 9], "rejected_ids": [10 + i], "score_chosen": 1.0}
        | {"score_rejected": 0.0}
        for i in range(len(known))
    ]
    columns = reference_columns(model, rows, 0, 8)
    for row, column, there in zip(rows, columns, known, strict=True):
        for side in ("chosen", "rejected"):
            row[f"sampled_{side}_logps"] = column[f"ref_{side}_logps"] + error if there else None
    return rows


def test_what_the_sampler_does_not_tell_is_computed_and_what_it_tells_wrongly_shows(random_llama):
    model = AutoModelForCausalLM.from_pretrained(random_llama)
    known = [True, False, True, False]
    rows = rows_with(model, known, error=0.25)
    rows[2]["sampled_rejected_logps"] = None  # an engine that knows one of two
    columns, told = from_sampler(rows, lambda wanted: reference_columns(model, wanted, 0, 8))
    exact = reference_columns(model, rows, 0, 8)
    assert (told["reference_sampled"], told["reference_computed"]) == (1, 3)
    assert told["reference_mismatch_mean"] == pytest.approx(0.25, abs=1e-4)
    for i, (ours, right) in enumerate(zip(columns, exact, strict=True)):
        error = 0.25 if i == 0 else 0.0
        assert ours["ref_chosen_logps"] == pytest.approx(right["ref_chosen_logps"] + error, abs=1e-4)


def test_an_engine_that_tells_nothing_has_everything_computed(random_llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(random_llama)
    for batching in (None, "length_grouped"):
        settings = TrainingConfig(batch_size=8, fresh_reference="sampler", batching=batching)
        rows = rows_with(model, [False] * 8)
        told = train_dpo(TrainJob(random_llama, random_llama, LossConfig(), 1.0, settings, 0), rows, tmp_path)
        assert (told["reference_sampled"], told["reference_computed"]) == (0, 8)
        assert "reference_mismatch_mean" not in told


def test_a_reference_that_did_not_sample_is_refused_and_the_default_says_nothing():
    with pytest.raises(UserError, match="needs reference 'iteration_start'"):
        load_config("tiny", overrides=["training.fresh_reference=sampler", "training.reference=sft"])
    assert "fresh_reference" not in load_config("tiny").training.model_dump()
