"""Training in several processes: which one this is, exchanging lists, and collecting weights that are sharded."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch.distributed.fsdp import MixedPrecisionPolicy

from optune.types import UserError


def this_process() -> PartialState:
    """This process's rank and the number of processes that `accelerate launch` started (1 without it); gloo on CPUs."""
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
    """Let FSDP and DeepSpeed hold, gather and sum in fp32; autocast alone chooses what is computed in 16 bits.

    accelerate's setup casts everything, sums included. The policy's log-probabilities would then be computed otherwise
    than the reference's.
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

    All processes must call it. DeepSpeed's own gathering returns the 16-bit copy, in which an update of 5e-7 is lost,
    so its weights are read from the optimizer.
    """
    accelerator = trainer.accelerator
    if accelerator.distributed_type == DistributedType.FSDP:
        return accelerator.get_state_dict(trainer.model_wrapped)
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return None
    from deepspeed.utils import safe_get_full_fp32_param

    weights = {}
    # Collecting a weight takes all processes, so each asks for every one; only the main process keeps them.
    for name, weight in accelerator.unwrap_model(trainer.model_wrapped).named_parameters():
        full = safe_get_full_fp32_param(weight)
        if accelerator.is_main_process:
            weights[name] = full.cpu()
    return weights
