"""Eq. 5 and Eq. 6 against numbers computed by hand, and wDPO's limits."""

from __future__ import annotations

import math

import pytest
import torch

from optune.training.losses import dpo_loss, wdpo_loss, wdpo_weight

# Log-probabilities of one pair: policy chosen, policy rejected, reference chosen, reference rejected; and its rewards.
PAIR = (-10.0, -12.0, -11.0, -11.5)
SCORES = (2.0, 0.5)


def tensors(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


def test_dpo_is_eq_5():
    # margin = 0.1 ((-10 + 11) - (-12 + 11.5)) = 0.15; loss = log(1 + e^-0.15) = 0.6209570...
    loss = dpo_loss(*tensors(*PAIR, *SCORES), beta=0.1, beta_2=1.0)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(0.6209570, abs=1e-6)


def test_wdpo_is_eq_6():
    # R = sigma(2 (2 - 0.5)) = sigma(3) = 0.9525741; 0.9525741 * 0.6209570 = 0.5915075
    loss = wdpo_loss(*tensors(*PAIR, *SCORES), beta=0.1, beta_2=2.0)
    assert loss.item() == pytest.approx(0.5915075, abs=1e-6)


def test_wdpo_with_beta_2_zero_halves_dpo():
    arguments = tensors(*PAIR, *SCORES)
    half = wdpo_loss(*arguments, beta=0.1, beta_2=0.0)
    assert half.item() == pytest.approx(dpo_loss(*arguments, beta=0.1, beta_2=0.0).item() / 2, rel=1e-12)


def test_wdpo_with_beta_2_to_infinity_is_dpo():
    arguments = tensors(*PAIR, *SCORES)
    limit = wdpo_loss(*arguments, beta=0.1, beta_2=1e6)
    assert torch.equal(limit, dpo_loss(*arguments, beta=0.1, beta_2=1e6))


def test_weight_grows_with_the_reward_gap_from_one_half():
    weights = wdpo_weight(torch.tensor([0.0, 1.0, 3.0]), torch.zeros(3), beta_2=1.0)
    assert weights.tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-3))])


def test_a_larger_gap_gives_a_larger_gradient_in_the_same_direction():
    chosen = torch.zeros(2, requires_grad=True)
    zeros = torch.zeros(2)
    wdpo_loss(chosen, zeros, zeros, zeros, torch.tensor([1.0, 5.0]), zeros, beta=0.1, beta_2=1.0).sum().backward()
    assert chosen.grad[1] < chosen.grad[0] < 0
