"""Eq. 5 and Eq. 6: the losses, as pure functions on tensors.

Every loss takes log-probabilities of shape (batch,), each the sum over one response's tokens in nats, and the two
rewards of the pair, shape (batch,); it returns one loss per pair, shape (batch,). The reduction is the caller's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def implicit_reward_margin(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    beta: float,
) -> Tensor:
    """beta_1 log(pi(y_w|x) / pi_ref(y_w|x)) - beta_1 log(pi(y_l|x) / pi_ref(y_l|x)): the argument of sigma in Eq. 5."""
    # (batch,) each, in nats: how much likelier than the reference the policy makes a response.
    chosen = policy_chosen_logps - reference_chosen_logps
    rejected = policy_rejected_logps - reference_rejected_logps
    return beta * (chosen - rejected)


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    score_chosen: Tensor,
    score_rejected: Tensor,
    *,
    beta: float,
    beta_2: float,
) -> Tensor:
    """Eq. 5: -log I. It uses neither the rewards nor beta_2. wDPO becomes this loss as beta_2 goes to infinity."""
    return -F.logsigmoid(
        implicit_reward_margin(
            policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta
        )
    )


def wdpo_weight(score_chosen: Tensor, score_rejected: Tensor, beta_2: float) -> Tensor:
    """R of Eq. 6: sigma(beta_2 (r(x, y_w) - r(x, y_l))), in [0.5, 1); a constant to the gradient."""
    return torch.sigmoid(beta_2 * (score_chosen - score_rejected))


def wdpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    score_chosen: Tensor,
    score_rejected: Tensor,
    *,
    beta: float,
    beta_2: float,
) -> Tensor:
    """Eq. 6: -R log I. beta_2 = 0 halves the DPO loss."""
    unweighted = dpo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        reference_chosen_logps,
        reference_rejected_logps,
        score_chosen,
        score_rejected,
        beta=beta,
        beta_2=beta_2,
    )
    # One weight per pair; rewards come from the data and carry no gradient.
    return wdpo_weight(score_chosen, score_rejected, beta_2) * unweighted


def dpo_mean_weight_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    score_chosen: Tensor,
    score_rejected: Tensor,
    *,
    beta: float,
    beta_2: float,
) -> Tensor:
    """A control, not the paper's: Eq. 5 times the batch's mean weight R of Eq. 6.

    What wDPO gains over this comes from weighing pairs differently; what this gains over DPO is a smaller step.
    """
    unweighted = dpo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        reference_chosen_logps,
        reference_rejected_logps,
        score_chosen,
        score_rejected,
        beta=beta,
        beta_2=beta_2,
    )
    return wdpo_weight(score_chosen, score_rejected, beta_2).mean() * unweighted


# It gets the rewards of all pairs of an update, with the log-probabilities of one micro-batch.
dpo_mean_weight_loss.reads_whole_update = True

LOSSES = {"dpo": dpo_loss, "wdpo": wdpo_loss, "dpo_mean_weight": dpo_mean_weight_loss}
