"""WeightedDPOTrainer that cuts its updates into micro-batches of similar lengths: the same updates, less computation.

The data loader hands over whole updates, with the same pairs as TRL's. `micro_batches` cuts an update, and
`pair_logprobs` computes each micro-batch. Every pair has the weight 1 / (pairs of the update), in whichever micro-batch
and process it is. So the gradient does not depend, but for rounding, on how an update is cut or how many processes
share it, and an update that is not full is weighed right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import DistributedType
from peft import PeftModel
from torch import Tensor

from optune.pairs.rows import SCORES
from optune.training.distributed import leave_precision_to_autocast
from optune.training.losses import wdpo_weight
from optune.training.micro_batches import micro_batches
from optune.training.pair_logprobs import PADDING, PairLogprobs, add_pair_head, pack, pair_logprobs, place
from optune.training.weighted_trainer import REFERENCES, WeightedDPOTrainer
from optune.types import UserError

# The metrics of an update: OF_PAIRS are means over its pairs, OF_TOKENS means over the tokens that the value names.
# SUMS are the sums from which `_record` makes those means, in the order in which `_sums` stacks them.
OF_PAIRS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "weights/mean",
)
OF_TOKENS = {"entropy": "tokens", "logits/chosen": "chosen", "logits/rejected": "rejected"}
SUMS = ("loss", *OF_PAIRS, *OF_TOKENS, "mean_token_accuracy", "chosen", "rejected", "filled", "positions")


@dataclass
class UpdateCollator:
    """Cuts an update's pairs into micro-batches and returns this process's share of them.

    Every process gets the same number of micro-batches, so that all stay in step.
    """

    pad_token_id: int
    max_pairs: int
    max_tokens: int | None
    shared: bool
    processes: int = 1
    process: int = 0

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        places = [place(row, self.shared) for row in rows]
        widths, sizes = [width for width, _ in places], [size for _, size in places]
        cut = micro_batches(widths, sizes, self.max_pairs, self.max_tokens, self.processes)
        micro = []
        for batch in cut[self.process :: self.processes]:
            # An empty micro-batch computes some pair, so that the processes stay in step, and does not count it.
            micro.append(self._micro_batch([rows[i] for i in batch] or rows[-1:], counts=bool(batch)))
        return {
            "pairs": len(rows),
            "tokens": sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows),
            "scores": [_column(rows, name) for name in SCORES],
            "micro_batches": micro,
        }

    def _micro_batch(self, rows: Sequence[dict[str, Any]], counts: bool) -> dict[str, Any]:
        """The token ids of these pairs, packed; their rewards and reference log-probabilities, (pairs,) each."""
        columns = {name: _column(rows, name) for name in (*SCORES, *REFERENCES)}
        return {"packed": pack(rows, self.pad_token_id, self.shared), "counts": counts, **columns}


def _column(rows: Sequence[dict[str, Any]], name: str) -> Tensor:
    """(rows,) one number of each row."""
    return torch.tensor([row[name] for row in rows])


class GroupedDPOTrainer(WeightedDPOTrainer):
    """`args.per_device_train_batch_size` is the pairs of an update, over all processes; see the module."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        add_pair_head(self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model)
        leave_precision_to_autocast(self.accelerator)

    def get_train_dataloader(self) -> Any:
        """Every process sees every update, and takes its own part of it in the collator."""
        loader = super().get_train_dataloader()
        if self.accelerator.num_processes > 1:  # accelerate's sampler would deal out updates, and fill up the last one
            sampler = loader.batch_sampler
            sampler.num_processes, sampler.process_index, sampler.even_batches = 1, 0, False
        return loader

    def floating_point_ops(self, inputs: Any) -> int:
        """0: nobody reads this estimate, and TRL's walks the whole model in every update."""
        return 0

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Gradients of one update; returns its loss, the mean over its pairs. Raises UserError where it is not finite.

        Each process adds up the losses of its pairs. Processes average their gradients, so the sum is multiplied by
        their number and divided by the update's pairs: `scale`.
        """
        model.train()
        device = self.accelerator.device
        sums = torch.zeros(len(SUMS), device=device)
        parts = inputs["micro_batches"]
        scores = [values.to(device) for values in inputs["scores"]]
        scale = self.accelerator.num_processes / inputs["pairs"]
        for k, part in enumerate(parts, start=1):
            with self._synchronised(model, k == len(parts)):
                loss, own_sums = self._micro_step(model, self._prepare_inputs(part), scores)
                self.accelerator.backward(loss * scale, **self._unscaled)
            sums += own_sums
        sums = self.accelerator.reduce(sums, "sum")
        mean = sums[0] / inputs["pairs"]
        if not torch.isfinite(mean):
            raise UserError("The loss is not finite: training stopped, and nothing of it is saved. Lower the rate.")
        self._record(dict(zip(SUMS, sums.tolist(), strict=True)), inputs["pairs"], inputs["tokens"])
        return mean

    def _micro_step(self, model: Any, part: dict[str, Any], scores: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The sum of a micro-batch's losses (a scalar with its graph), and its SUMS.

        scores: two tensors (pairs of the update,), for a loss that reads the whole update's rewards.
        """
        with self.accelerator.autocast():  # accelerate leaves it out where FSDP shards the model
            logprobs = pair_logprobs(model, part["packed"])
        # All (pairs of the micro-batch,), and so are the losses.
        references = [part[name] for name in REFERENCES]
        own = [part[name] for name in SCORES]
        logps = (logprobs.chosen_logps, logprobs.rejected_logps)
        losses = self.pair_loss(*logps, *references, *(scores if self.whole_update else own))
        if not part["counts"]:  # times 0 rather than left out: the other processes wait for this gradient
            return losses.sum() * 0.0, torch.zeros(len(SUMS), device=losses.device)
        return losses.sum(), self._sums(losses.detach(), logprobs, references, own, part["packed"])

    @torch.no_grad()
    def _sums(
        self,
        losses: Tensor,
        logprobs: PairLogprobs,
        references: list[Tensor],
        scores: list[Tensor],
        packed: dict[str, Any],
    ) -> Tensor:
        """SUMS of a micro-batch, (len(SUMS),): of each metric the sum over its pairs or response tokens."""
        chosen = self.beta * (logprobs.chosen_logps - references[0])
        rejected = self.beta * (logprobs.rejected_logps - references[1])
        of_pairs = (
            chosen,
            rejected,
            (chosen > rejected).float(),
            chosen - rejected,
            logprobs.chosen_logps,
            logprobs.rejected_logps,
            wdpo_weight(*scores, self.beta_2),
        )
        # (rows, width) each; the head's outputs are 0 where no response token is predicted.
        output, part = logprobs.output, packed["part"]
        of_tokens = (
            output.entropy,
            output.mean_logits * logprobs.chosen,
            output.mean_logits * logprobs.rejected,
            output.is_top1 & logprobs.chosen,
            logprobs.chosen,
            logprobs.rejected,
            part != PADDING,
            torch.ones_like(part),
        )
        return torch.stack([values.sum().float() for values in (losses, *of_pairs, *of_tokens)])

    def _record(self, sums: dict[str, float], pairs: int, seen: int) -> None:
        """TRL's metrics of an update, by its names, and the share of positions that were padding."""
        metrics = self._metrics["train"]
        tokens = {"tokens": sums["chosen"] + sums["rejected"], "chosen": sums["chosen"], "rejected": sums["rejected"]}
        for name in OF_PAIRS:
            metrics[name].append(sums[name] / pairs)
        for name, of in OF_TOKENS.items():
            metrics[name].append(sums[name] / max(tokens[of], 1.0))
        metrics["mean_token_accuracy"].append(sums["mean_token_accuracy"] / max(tokens["chosen"], 1.0))
        metrics["padding_share"].append(1 - sums["filled"] / sums["positions"])
        self._total_train_tokens += seen
        metrics["num_tokens"] = [self._total_train_tokens]

    def _synchronised(self, model: Any, last: bool) -> contextlib.AbstractContextManager:
        """Processes exchange gradients after an update's last micro-batch only (DeepSpeed sees to it itself)."""
        self.accelerator.gradient_state._set_sync_gradients(last)
        if last or self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            return contextlib.nullcontext()
        return self.accelerator.no_sync(model=model)

    @property
    def _unscaled(self) -> dict[str, Any]:
        """DeepSpeed would divide by its own count of micro-batches."""
        return {"scale_wrt_gas": False} if self.accelerator.distributed_type == DistributedType.DEEPSPEED else {}
