"""8-bit optimizers: what they need, and that bitsandbytes' own train our policy as those of 32 bits do (slow)."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file

from optune.config import LossConfig, TrainingConfig
from optune.loop.algorithm import run_optune
from optune.training.common import optimizer_of
from optune.training.dpo import train_dpo
from optune.training.job import TrainJob
from optune.types import UserError

FULL = {"rmsprop_8bit": "rmsprop", "adamw_8bit": "adamw_torch"}


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
@pytest.mark.parametrize("name", FULL)
def test_an_8_bit_optimizer_without_its_package_is_refused_before_anything_is_sampled(name, config, tmp_path):
    with pytest.raises(UserError, match="needs bitsandbytes: pip install bitsandbytes"):
        run_optune(config.with_overrides({"training.optimizer": name}), tmp_path)
    assert not list(tmp_path.glob("stages/*"))
    assert optimizer_of(TrainingConfig()) == "rmsprop"


@pytest.fixture(scope="module")
def llama(random_llama, tmp_path_factory) -> Path:
    """A random Llama whose matrices are large enough (4,096 numbers) for bitsandbytes to keep 8-bit states of them."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    LlamaForCausalLM(LlamaConfig.from_pretrained(random_llama, **shape)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(random_llama).save_pretrained(folder)
    return folder


def pairs(n: int) -> list[dict]:
    rng = random.Random(0)
    ids = lambda: [rng.randrange(5, 100) for _ in range(rng.randint(1, 12))]  # noqa: E731
    parts = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [{p: ids() for p in parts} | {"score_chosen": 1 + rng.random(), "score_rejected": 0.0} for _ in range(n)]


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_an_8_bit_optimizer_trains_the_policy_of_its_full_one_within_its_states_rounding(llama, tmp_path, name):
    """bitsandbytes itself, on whatever there is (it has CPU kernels); measured: 0.5% and 1% of the movement."""
    pytest.importorskip("bitsandbytes", reason="pip install bitsandbytes: an option, too large for every set-up")
    trained, told = {}, {}
    for optimizer in (name, FULL[name]):
        settings = TrainingConfig(learning_rate=1e-4, batch_size=8, batching="length_grouped", optimizer=optimizer)
        out = tmp_path / optimizer
        told[optimizer] = train_dpo(TrainJob(llama, llama, LossConfig(), 1.0, settings, 0), pairs(21), out)
        trained[optimizer] = load_file(out / "model.safetensors")
    start = load_file(llama / "model.safetensors")

    def distance(a: dict, b: dict) -> float:
        return sum(float((a[tensor] - b[tensor]).abs().sum()) for tensor in a)

    moved = distance(trained[FULL[name]], start)
    assert 0 < distance(trained[name], trained[FULL[name]]) < 0.03 * moved  # above 0: states were in 8 bits
    assert told[name]["loss_last"] == pytest.approx(told[FULL[name]]["loss_last"], abs=1e-3)
    assert told[name]["loss_last"] < told[name]["loss_first"]
