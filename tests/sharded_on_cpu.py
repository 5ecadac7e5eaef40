"""`sharded_on_cpu.py -m MODULE ARG ...` runs a module with FSDP on a CPU, for which accelerate itself has only DDP.

Fails where a model that is prepared for training then does not lie in shards.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

make, prepare = PartialState.__init__, Accelerator.prepare


def as_on_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
    """Says what it would say where there are GPUs; devices and gloo stay the CPU's."""
    make(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


def in_shards(self: Accelerator, *args: Any, **kwargs: Any) -> Any:
    """As accelerate's, and a look at the weights: FSDP's are DTensors, DeepSpeed's have an id."""
    found = prepare(self, *args, **kwargs)
    for model in found if isinstance(found, tuple) else (found,):
        if isinstance(model, torch.nn.Module):
            assert all(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in model.parameters())
    return found


PartialState.__init__, Accelerator.prepare = as_on_gpus, in_shards
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
