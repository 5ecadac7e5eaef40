"""A second device for tests on a machine that has one: what lies there is computed here, and may meet only its like.

Tensors say that they are on `meta`, the one device that torch has everywhere and that nothing else here uses, but keep
their numbers. An operation on tensors of both devices fails, as it does between a CPU and a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

THERE = torch.device("meta")


class There(torch.Tensor):
    """A tensor on the second device."""

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), dtype=here.dtype, device=THERE, requires_grad=here.requires_grad
        )
        made.here = here
        return made

    def tolist(self) -> Any:
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """The block in which new tensors can be made on `meta`, and moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """`model` with its weights and buffers on the second device."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = torch.nn.Parameter(There(weight.detach()), requires_grad=False)
        for name, values in module._buffers.items():
            if values is not None:
                module._buffers[name] = There(values)
    return model


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, torch.Tensor)]
    there = any(isinstance(a, There) for a in given)
    strangers = [a for a in given if not isinstance(a, There) and a.dim()]  # a single number may come from the CPU
    if there and strangers and not any(part in str(func) for part in ("_to_copy", "copy_")):
        raise RuntimeError(f"{func}: tensors on two devices")
    device = kwargs.get("device")
    if device is not None:
        there, kwargs = torch.device(device) == THERE, {**kwargs, "device": torch.device("cpu")}
    found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if not there:
        return found
    same = {id(_here(a)): a for a in given}  # what is changed in place stays the tensor that it is
    return tree_map(
        lambda out: same[id(out)] if id(out) in same else There(out) if isinstance(out, torch.Tensor) else out, found
    )


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value
