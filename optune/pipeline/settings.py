"""What the commands that train a start model can be told: typed and strict, as a run's configuration is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from optune.config import RESOURCE, Dtype, LaunchConfig, LossConfig, Section, TrainingConfig

Column = Literal[
    "prompt",
    "prompt_id",
    "category",
    "completion",
    "messages",
    "text",
    "chosen",
    "rejected",
    "score_chosen",
    "score_rejected",
]


class DataConfig(Section):
    """The rows to train on, and those to measure on."""

    path: Annotated[str, RESOURCE] = Field(description="JSONL, JSON, Parquet or CSV file, or a hub data set's name")
    split: str = Field("train", description="hub data sets only")
    columns: dict[Column, str] | None = Field(None, description="what these columns are called in the data")
    limit: int | None = Field(None, ge=2, description="a fixed random sample of this many rows")
    held_out: float = Field(0.05, gt=0, lt=1, description="share of the prompts that is measured on, never trained on")
    held_out_path: Annotated[str | None, RESOURCE] = Field(
        None, description="rows to measure on in the place of that share; their prompts are not trained on"
    )
    held_out_split: str = Field("test", description="of held_out_path, where it is a hub data set")
    max_length: int = Field(1024, ge=2, description="tokens of a row; longer ones are left out and counted, never cut")


class FitConfig(Section):
    """How TRL's trainers train an SFT policy or a reward model."""

    learning_rate: float = Field(1e-5, gt=0)
    optimizer: Literal["rmsprop", "adamw_torch", "rmsprop_8bit", "adamw_8bit"] = "adamw_torch"
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(64, ge=1, description="rows per update")
    micro_batch_size: int = Field(8, ge=1, description="rows per forward pass")
    epochs: int = Field(1, ge=1)
    max_grad_norm: float = Field(1.0, ge=0)
    dtype: Dtype = Field("float32", description="bfloat16: mixed precision")
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _check(self) -> FitConfig:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self


class SftFit(FitConfig):
    """`FitConfig` with the usual rate of supervised fine-tuning."""

    learning_rate: float = Field(2e-5, gt=0)


class OfflineLoss(LossConfig):
    """Eq. 5 by default: Eq. 6 needs scores in every row. beta_2 auto: 1 / the median score gap of the rows."""

    name: str = "dpo"


class OfflineTraining(TrainingConfig):
    """One preference step of a run, on rows that are there: without the options that only a run has."""

    batching: Literal["length_grouped", "token_budget"] | None = "length_grouped"

    @model_validator(mode="after")
    def _of_a_run(self) -> OfflineTraining:
        given = {"learner": self.learner, "start": self.start, "fresh_reference": self.fresh_reference}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is an option of `optune run`; offline pairs are trained on once")
        return self


class StartModelConfig(Section):
    """What the three commands share."""

    model: Annotated[str, RESOURCE] = Field(description="the model to start from: a folder, hub name or packaged:name")
    trust_remote_code: bool = False
    data: DataConfig
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1, description="CPU threads; part of the result in its last bits")
    report_to: str | list[str] | None = Field(None, description="tensorboard, wandb, trackio, ...")


class SftConfig(StartModelConfig):
    """`optune sft`."""

    chat_template: str | None = Field(
        None, description="a .jinja file, or a model whose template is taken, for a base model that has none"
    )
    training: SftFit = SftFit()


class RewardModelConfig(StartModelConfig):
    """`optune reward`."""

    training: FitConfig = FitConfig()


class PreferenceConfig(StartModelConfig):
    """`optune preference`."""

    loss: OfflineLoss = OfflineLoss()
    training: OfflineTraining = OfflineTraining()
    launch: LaunchConfig | None = None


def results_fields(config: StartModelConfig) -> dict[str, Any]:
    """What decides the results, for the manifest: not where numbers are reported to."""
    fields = config.model_dump(exclude={"report_to"})
    if (fields.get("launch") or {}).get("mode") == "process":
        fields.pop("launch")
    return fields


KINDS: dict[str, type[StartModelConfig]] = {
    "sft": SftConfig,
    "reward": RewardModelConfig,
    "preference": PreferenceConfig,
}
