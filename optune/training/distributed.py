"""What training needs to know of its fellow processes, and how weights that are spread over them come together."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch.distributed.fsdp import MixedPrecisionPolicy

from optune.types import UserError


def this_process() -> PartialState:
    """This process among those that `accelerate launch` started; alone without it. On a CPU they talk by gloo."""
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes == 1 and torch.cuda.device_count() > 1:
        raise UserError(
            "Training in one process uses one GPU: set CUDA_VISIBLE_DEVICES to one of them, or launch.mode=accelerate."
        )
    if os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "false").lower() == "true":
        raise UserError(
            "launch.config: every process needs the policy's weights; set fsdp_cpu_ram_efficient_loading: false."
        )
    return state


def gathered(own: list[Any]) -> list[Any]:
    """The processes' lists, one after the other."""
    return gather_object(own)


def leave_precision_to_autocast(accelerator: Any) -> None:
    """Let FSDP and DeepSpeed hold, gather and sum in fp32, with autocast alone choosing what is computed in 16 bits.

    As accelerate sets them up they cast everything, sums included: the policy would not be scored as its reference was.
    """
    fsdp = getattr(accelerator.state, "fsdp_plugin", None)
    if fsdp is not None and fsdp.fsdp_version == 2:
        fsdp.mixed_precision_policy = MixedPrecisionPolicy()
    deepspeed = accelerator.state.deepspeed_plugin
    if deepspeed is not None and accelerator.mixed_precision == "bf16":
        autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
        deepspeed.deepspeed_config |= {"bf16": {"enabled": False}, "torch_autocast": autocast}


def whole_weights(trainer: Any) -> dict[str, torch.Tensor] | None:
    """Full-precision weights where they are spread over processes, in the main one; None where each has them all.

    To be called by all. DeepSpeed's own gathering gives the 16-bit copy, in which a step of 5e-7 is lost; the optimizer
    has them in full.
    """
    accelerator = trainer.accelerator
    if accelerator.distributed_type == DistributedType.FSDP:
        return accelerator.get_state_dict(trainer.model_wrapped)
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return None
    from deepspeed.utils import safe_get_full_fp32_param

    weights = {}
    for name, weight in accelerator.unwrap_model(trainer.model_wrapped).named_parameters():
        full = safe_get_full_fp32_param(weight)
        if accelerator.is_main_process:
            weights[name] = full.cpu()
    return weights
