"""Updates cut by length: the same pairs and the same gradient as TRL's batches, with little computed on padding."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from datasets import Dataset
from second_device import SecondDevice, moved
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Trainer,
)
from trl.trainer.utils import FusedCausalLMOutput

from optune.config import LossConfig, TrainingConfig, load_config
from optune.training.dpo import train_dpo, training_arguments
from optune.training.grouped_trainer import GroupedDPOTrainer, UpdateCollator
from optune.training.job import TrainJob
from optune.training.losses import LOSSES
from optune.training.micro_batches import micro_batches, positions
from optune.training.pair_logprobs import (
    OUTPUTS,
    add_pair_head,
    pack,
    pair_logprobs,
    pair_reference_columns,
    place,
    shares_prompts,
)
from optune.training.reference import reference_columns
from optune.training.weighted_trainer import WeightedDPOTrainer
from optune.types import UserError
from optune.utils.quiet import quiet_libraries

VOCABULARY = 100


def pairs(n: int, longest: int = 12, seed: int = 0) -> list[dict]:
    rng = random.Random(seed)
    ids = lambda: [rng.randrange(5, VOCABULARY) for _ in range(rng.randint(1, longest))]  # noqa: E731
    parts = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [{p: ids() for p in parts} | {"score_chosen": 1 + rng.random(), "score_rejected": 0.0} for _ in range(n)]


def with_reference(model, rows: list[dict]) -> Dataset:
    columns = reference_columns(model, rows, pad_id=0, batch_size=8)
    return Dataset.from_list([{**row, **extra} for row, extra in zip(rows, columns, strict=True)])


def trained(folder, tmp_path, rows, loss="wdpo", lora=None, **settings):
    """Weights and updates after training with plain gradient steps, which show the gradient itself."""
    quiet_libraries()
    model = AutoModelForCausalLM.from_pretrained(folder)
    settings = TrainingConfig(**{"batch_size": 8, "micro_batch_size": 8, "max_grad_norm": 0.0, **settings})
    collator = UpdateCollator(0, **settings.limits, shared=True) if settings.batching else None
    trainer = (GroupedDPOTrainer if collator else WeightedDPOTrainer)(
        model=model,
        data_collator=collator,
        args=training_arguments(settings, 0.1, 7, tmp_path),
        train_dataset=with_reference(model, rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
        loss=loss,
        optimizers=(torch.optim.SGD(model.parameters(), lr=0.5), None),
    )
    trainer.train()
    return model.state_dict(), [entry for entry in trainer.state.log_history if "loss" in entry]


def assert_same_steps(one, other, start):
    """Weights agree to a ten-thousandth of how far training has moved them."""
    moved = max(float((one[name] - start[name]).abs().max()) for name in start)
    assert moved > 1e-3
    for name, weights in one.items():
        torch.testing.assert_close(other[name], weights, rtol=0, atol=1e-4 * moved)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("batching_mode", [None, "length_grouped"])
def test_gradient_accumulation_does_not_change_the_update(random_llama, tmp_path, loss, batching_mode):
    rows = pairs(21)  # the last update holds five pairs: micro-batches of 4 and 1, or 2, 2 and 1
    start = AutoModelForCausalLM.from_pretrained(random_llama).state_dict()
    whole, log = trained(random_llama, tmp_path, rows, loss)
    assert [entry["step"] for entry in log] == [1, 2, 3]
    for accumulation in (1, 2, 4):
        parts = {"micro_batch_size": 8 // accumulation, "batching": batching_mode}
        found, updates = trained(random_llama, tmp_path, rows, loss, **parts)
        assert_same_steps(whole, found, start)
        assert [u["loss"] for u in updates] == pytest.approx([u["loss"] for u in log], abs=1e-4)


def test_a_token_budget_does_not_change_the_update_either(random_llama, tmp_path):
    rows, start = pairs(21), AutoModelForCausalLM.from_pretrained(random_llama).state_dict()
    whole, _ = trained(random_llama, tmp_path, rows)
    for budget in (1, 40, 10_000):
        found, _ = trained(random_llama, tmp_path, rows, batching="token_budget", micro_batch_tokens=budget)
        assert_same_steps(whole, found, start)


def test_every_metric_of_trls_is_there_and_tells_the_same(random_llama, tmp_path):
    rows = pairs(16)
    logs = [trained(random_llama, tmp_path, rows, batching=mode)[1] for mode in (None, "length_grouped")]
    for trls, ours in zip(*logs, strict=True):
        assert set(ours) == set(trls) | {"padding_share"}
        for name in set(trls) - {"rewards/accuracies"}:  # before the first update all rewards are 0 up to rounding
            assert ours[name] == pytest.approx(trls[name], abs=2e-4), name


@pytest.mark.parametrize("kind", [LlamaForCausalLM, MistralForCausalLM])
def test_a_pair_in_one_row_scores_as_its_two_rows_alone(kind):
    torch.manual_seed(0)
    config = MistralConfig if kind is MistralForCausalLM else LlamaConfig
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = kind(config(vocab_size=VOCABULARY, num_key_value_heads=2, **sizes)).eval()
    rows = pairs(9)
    add_pair_head(model)
    assert shares_prompts(model, rows, 0)
    expected = reference_columns(model, rows, 0, 4)
    for shared in (True, False):
        found = pair_reference_columns(model, rows, 0, shared, max_pairs=4)
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            assert [row[name] for row in found] == pytest.approx([row[name] for row in expected], abs=1e-4)


def test_a_model_that_cannot_take_a_pair_in_one_row_is_found_out_and_trains_on_two(tmp_path, random_llama):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    narrow = MistralForCausalLM(MistralConfig(vocab_size=VOCABULARY, num_key_value_heads=2, sliding_window=4, **sizes))
    eager = AutoModelForCausalLM.from_pretrained(random_llama, attn_implementation="eager")
    for model in (narrow.eval(), eager):
        add_pair_head(model)
        assert not shares_prompts(model, pairs(4), 0)
    plain = AutoModelForCausalLM.from_pretrained(random_llama)
    add_pair_head(plain)
    assert shares_prompts(plain, pairs(4), 0)
    assert not shares_prompts(plain, [*pairs(4), {**pairs(1)[0], "prompt_ids": []}], 0)

    narrow.save_pretrained(tmp_path / "narrow")
    AutoTokenizer.from_pretrained(random_llama).save_pretrained(tmp_path / "narrow")
    narrow = tmp_path / "narrow"
    results = [
        train_dpo(
            TrainJob(narrow, narrow, LossConfig(), 1.0, settings, 0),
            pairs(16),
            tmp_path / "out",
        )
        for settings in (TrainingConfig(batch_size=8), TrainingConfig(batch_size=8, batching="length_grouped"))
    ]
    assert results[1]["logps/chosen"] == pytest.approx(results[0]["logps/chosen"], abs=1e-3)
    assert results[1]["loss_last"] == pytest.approx(results[0]["loss_last"], abs=1e-3)


@pytest.mark.parametrize("chunk", [1, 3])
def test_logits_made_a_few_tokens_at_a_time_say_what_all_of_them_say(random_llama, monkeypatch, chunk):
    rows, told = pairs(6), []
    for tokens in (2**20, chunk):
        monkeypatch.setattr("optune.training.pair_logprobs.CHUNK", tokens)
        model = AutoModelForCausalLM.from_pretrained(random_llama)
        add_pair_head(model)
        scores = pair_logprobs(model, pack(rows, 0, shared=True))
        (scores.chosen_logps - 2 * scores.rejected_logps).sum().backward()
        told.append(([getattr(scores.output, name) for name in OUTPUTS], [p.grad for p in model.parameters()]))
    torch.testing.assert_close(told[0], told[1])


def test_a_head_that_is_more_than_a_matrix_takes_trls_and_says_the_same(random_llama):
    told = []
    for bias in (False, True):
        model = AutoModelForCausalLM.from_pretrained(random_llama)
        head = torch.nn.Linear(model.lm_head.in_features, model.lm_head.out_features, bias=bias)
        head.weight = model.lm_head.weight
        if bias:
            torch.nn.init.zeros_(head.bias)
        model.set_output_embeddings(head)
        add_pair_head(model)
        told.append(pair_logprobs(model, pack(pairs(6), 0, shared=True)))
    torch.testing.assert_close(told[0].chosen_logps, told[1].chosen_logps)


def sandbox_places(n: int) -> list[tuple[int, int]]:
    """Places of pairs as long as the tiny preset's: prompts of 6 to 12 tokens, responses of 2 to 11."""
    rng = np.random.default_rng(1000)
    rows = zip(rng.integers(6, 13, n), rng.integers(2, 12, n), rng.integers(2, 12, n), strict=True)
    return [place({"prompt_ids": [0] * p, "chosen_ids": [0] * c, "rejected_ids": [0] * r}, True) for p, c, r in rows]


def chat_places(n: int) -> list[tuple[int, int]]:
    """Places of pairs as wide apart as chats are: log-normal lengths, cut at 512 tokens each."""
    rng = np.random.default_rng(1000)
    lengths = np.clip(rng.lognormal(5.0, 1.2, (n, 3)), 1, 512).astype(int)
    return [place({"prompt_ids": [0] * p, "chosen_ids": [0] * c, "rejected_ids": [0] * r}, True) for p, c, r in lengths]


@pytest.mark.parametrize("places", [sandbox_places, chat_places])
@pytest.mark.parametrize("limits", [{"max_pairs": 8}, {"max_pairs": 32}, {"max_pairs": 32, "max_tokens": 6144}])
@pytest.mark.parametrize("processes", [1, 2, 8])
def test_padding_is_at_most_15_percent_and_every_pair_is_computed_once(places, limits, processes):
    padded = filled = 0
    for update in range(20):
        widths, sizes = zip(*places(32 * (update + 1))[-32:], strict=True)
        cut = micro_batches(widths, sizes, **limits, processes=processes)
        assert sorted(i for batch in cut for i in batch) == list(range(32))
        assert len(cut) % processes == 0
        assert all(0 < len(batch) <= limits["max_pairs"] for batch in cut)
        taken = [positions(batch, widths) for batch in cut]
        assert max(taken) <= limits.get("max_tokens", max(taken))
        padded += sum(taken) - sum(sizes)
        filled += sum(sizes)
    assert padded / (padded + filled) <= 0.15


def test_shuffled_batches_of_the_same_pairs_would_waste_more():
    widths, sizes = zip(*chat_places(640), strict=True)
    taken = sum(positions(range(k, k + 8), widths) for k in range(0, 640, 8))
    assert 1 - sum(sizes) / taken > 0.3


def test_fewer_pairs_than_processes_leave_some_without_and_one_too_long_stands_alone():
    assert micro_batches([5, 3], [5, 3], 8, processes=3) == [[0], [1], []]
    assert micro_batches([500, 3], [500, 3], 8, max_tokens=100) == [[0], [1]]


def test_the_stage_reports_its_padding(random_llama, tmp_path):
    settings = TrainingConfig(batch_size=16, micro_batch_size=8, batching="length_grouped")
    result = train_dpo(TrainJob(random_llama, random_llama, LossConfig(), 1.0, settings, 0), pairs(64), tmp_path)
    assert 0 < result["padding_share"] <= 0.15
    assert (tmp_path / "model.safetensors").exists()


def test_an_adapter_trains_on_grouped_pairs(random_llama, tmp_path):
    settings = {"learning_rate": 1e-3, "batch_size": 8, "lora": {"r": 4}, "batching": "length_grouped", "epochs": 4}
    job = TrainJob(random_llama, random_llama, LossConfig(), 1.0, TrainingConfig(**settings), 0)
    result = train_dpo(job, pairs(16), tmp_path)
    assert result["loss_last"] < result["loss_first"]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_a_grouped_loss_that_is_not_finite_stops_before_anything_is_saved(random_llama, tmp_path):
    rows = pairs(8)
    rows[3]["score_chosen"] = float("nan")
    settings = TrainingConfig(batch_size=8, batching="length_grouped")
    with pytest.raises(UserError, match="not finite"):
        train_dpo(TrainJob(random_llama, random_llama, LossConfig(), 1.0, settings, 0), rows, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_prompts_are_shared_in_16_bits_too():
    """Two ways of computing the same differ in 16 bits, by more than the trial allows: it is made in 32."""
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
    config = LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=4, initializer_range=0.2, **shape)
    model = LlamaForCausalLM(config).eval()
    add_pair_head(model)
    rows = pairs(8, longest=300)
    with torch.autocast("cpu", torch.bfloat16):
        one, two = (pair_reference_columns(model, rows, 0, shared, max_pairs=8) for shared in (True, False))
        assert max(abs(a["ref_chosen_logps"] - b["ref_chosen_logps"]) for a, b in zip(one, two, strict=True)) > 0.1
        assert shares_prompts(model, rows, 0)


def test_a_model_on_another_device_is_scored_there(monkeypatch):
    """Nothing that a reference or a pair's score is made of stays behind on the CPU."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape)).eval()
    add_pair_head(model)
    rows = pairs(6)

    def scored() -> list[float]:
        found = reference_columns(model, rows, 0, 4)
        for shared in (True, False):
            found += pair_reference_columns(model, rows, 0, shared, max_pairs=4)
        return [value for row in found for value in row.values()]

    expected = scored()
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # which knows no such device
    with SecondDevice():
        assert scored() == expected  # a model that is here meets nothing that is there
        moved(model)
        assert model.device.type == "meta" and scored() == pytest.approx(expected, abs=1e-4)
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            model(torch.ones(1, 2, dtype=torch.long))


def test_grouping_is_no_part_of_a_configuration_without_it():
    assert not {"batching", "micro_batch_tokens"} & set(load_config("tiny").training.model_dump())
    for preset in ("small", "paper"):
        settings = load_config(preset).training
        assert settings.limits == {"max_pairs": 128, "max_tokens": settings.micro_batch_tokens}
    with pytest.raises(UserError, match="need each other"):
        load_config("tiny", overrides=["training.batching=token_budget"])


def test_what_we_rely_on_in_trl_and_transformers_is_still_there():
    for name in ("get_train_dataloader", "get_batch_samples", "training_step", "floating_point_ops"):
        assert name in vars(Trainer)
    assert {"log_probs", *OUTPUTS} <= set(FusedCausalLMOutput.__dataclass_fields__)
