"""A model that computes in bfloat16 while its optimizer keeps float32 weights (`training.master_weights`).

Autocast casts every weight in every forward pass and leaves most activations in float32. Here weights and activations
are bfloat16 throughout. Gradients are summed, clipped and applied in float32, so that an update too small for bfloat16
is not lost.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


class MasterWeights:
    """Casts the weights of `model`, in float32, to bfloat16, and keeps them in float32 for the optimizer.

    Buffers stay as they are: in bfloat16 the angles of rotary positions would be wrong.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.masters: dict[Tensor, Tensor] = {}
        for weight in model.parameters():
            self.masters[weight] = torch.nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
            weight.data = weight.data.to(torch.bfloat16)
            weight.grad_dtype = torch.float32  # micro-batches add up in float32

    def taught_by(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer, made for the model's weights, with the float32 ones in their place; it has no state yet."""
        for group in optimizer.param_groups:
            group["params"] = [self.masters[weight] for weight in group["params"]]
        optimizer.register_step_pre_hook(self._hand_over_gradients)
        optimizer.register_step_post_hook(self._copy_back)
        return optimizer

    def restore(self) -> None:
        """Gives the model its float32 weights, to be saved."""
        for weight, master in self.masters.items():
            weight.grad = None
            weight.data = master.data

    def _hand_over_gradients(self, *_: Any) -> None:
        for weight, master in self.masters.items():
            master.grad = weight.grad

    @torch.no_grad()
    def _copy_back(self, *_: Any) -> None:
        for weight, master in self.masters.items():
            weight.copy_(master)
            master.grad = None
