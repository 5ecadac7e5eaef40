"""One preference step as data, the same for training in this process and in worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optune.config import LossConfig, TrainingConfig


@dataclass(frozen=True)
class TrainJob:
    """Algorithm 1, line 22: from `policy`, against `reference`, by `loss` (Eq. 5 or 6) with its resolved `beta_2`.

    policy, reference: `transformers` folders or hub names; equal where the reference is the policy at the iteration's
    start. The pairs are passed separately, as rows.
    """

    policy: str | Path
    reference: str | Path
    loss: LossConfig
    beta_2: float
    settings: TrainingConfig
    seed: int
    trust_remote_code: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for a worker's job file."""
        return {
            "policy": str(self.policy),
            "reference": str(self.reference),
            "loss": self.loss.model_dump(),
            "beta_2": self.beta_2,
            "settings": self.settings.model_dump(),
            "seed": self.seed,
            "trust_remote_code": self.trust_remote_code,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainJob:
        """The job of a `to_json` object."""
        sections = {"loss": LossConfig(**data["loss"]), "settings": TrainingConfig(**data["settings"])}
        return cls(**{**data, **sections})
