"""bf16 is used where the machine has it, and whoever asks for it where it is emulated is told (utils/precision.py)."""

import pytest
import torch

from experiments import demo
from experiments.compute.arms import arm
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from optune.config import load_config
from optune.instructions.parts.offline import OfflineBuild
from optune.instructions.parts.reward_model import RewardBuild
from optune.utils import precision


@pytest.fixture
def emulating(monkeypatch):
    """A machine without bf16 arithmetic."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)


def computing(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU decides")
def test_a_processor_without_wide_vectors_has_no_bf16():
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT", "NO AVX"):
        assert not precision.has_bfloat16()
    if torch.cpu._is_avx512_bf16_supported():
        assert precision.has_bfloat16()


def test_a_torch_that_cannot_tell_has_no_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # as on a Mac
    assert not precision.has_bfloat16()


def test_every_option_that_asks_for_emulated_bf16_is_named(emulating):
    config = load_config("smollm2")
    options = "generation.dtype=float32 training.dtype=float32 evaluation.dtype=float32"
    assert options in precision.advice(config)
    assert precision.advice(config.with_overrides(dict(one.split("=") for one in options.split()))) is None
    assert precision.emulated(config.with_overrides({"evaluation": None, "reward.dtype": "bfloat16"})) == [
        "generation.dtype",
        "reward.dtype",
        "training.dtype",
    ]
    assert "generation.dtype" not in precision.emulated(config.with_overrides({"generation.engine": "server"}))


def test_nobody_is_told_where_bf16_is_computed_or_not_asked_for(monkeypatch, emulating):
    assert precision.advice(load_config("tiny")) is None
    computing(monkeypatch)
    assert precision.advice(load_config("smollm2")) is None


def types(config) -> set[str]:
    return {section.dtype for section in (config.generation, config.training, config.evaluation)}


def test_demo_and_builds_compute_in_the_type_that_is_fast(monkeypatch, emulating):
    asked = []
    monkeypatch.setattr(Setting, "resolve", lambda self, config: asked.append(config) or 1 / 0)  # the run is not needed
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(ZeroDivisionError):
            demo.demo()
        assert types(asked[-1]) == {RewardBuild().dtype, OfflineBuild().dtype} == {dtype}
        computing(monkeypatch)


def test_a_machine_with_bf16_computes_as_the_preset_says(monkeypatch):
    computing(monkeypatch)
    config = load_config("smollm2")
    assert precision.in_fast_type(config) == config


def test_arms_of_an_emulating_machine_are_announced_as_slow(monkeypatch, emulating, tmp_path, capsys):
    monkeypatch.setattr(Setting, "resolve", lambda self, config: config)
    monkeypatch.setattr("experiments.compute.run_arms._run_all", lambda tasks: None)
    monkeypatch.setattr("experiments.compute.run_arms._report", lambda *_: {})
    compute(Setting("smollm2", runs=tmp_path), [arm("dpo", "all")], [0])
    assert "generation.dtype=float32" in capsys.readouterr().out
