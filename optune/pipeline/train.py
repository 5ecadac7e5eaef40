"""The three stages of training a start model: rows, training, and what held-out rows tell.

Each is skipped when its key matches, as the stages of a run are: after a kill the same command goes on with the first
stage that is not finished, and trains from its beginning only where training itself was killed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from optune.config import unresolved
from optune.finished.export import export_model
from optune.loop.manifest import Manifest, StageEntry, ToldEntry, entry_of
from optune.loop.reporting import Reporter, reporting
from optune.packaged_models.names import PREFIX, checkpoint_of
from optune.pipeline.card import model_card
from optune.pipeline.rows import read_split, write_rows
from optune.pipeline.settings import StartModelConfig, results_fields
from optune.pipeline.task import Task
from optune.prompts.tokens import TEMPLATE_ERRORS, TemplateRefuses
from optune.store import Artefact, StageStore, content_hash, run_lock
from optune.types import UserError
from optune.utils.checkpoints import first_line
from optune.utils.hashing import stable_seed
from optune.utils.threads import cpu_threads

# Raised by one when a stage's code changes what it writes.
VERSIONS = {"rows": 1, "train": 1, "evaluate": 1}
# Options that the stage of rows does not read.
TRAINING_ONLY = {"model", "training", "loss", "launch", "report_to", "threads"}


@dataclass(frozen=True)
class Trained:
    """The folder of the model, for `policy.model` or `reward.model` of a run, and what held-out rows told."""

    model: Path
    role: str
    measures: dict[str, Any]
    stages: list[StageEntry]


def task_of(name: str) -> Task:
    """The task of a command: sft, reward or preference. Imported when asked for, as it takes torch."""
    return import_module(f"optune.pipeline.{name}").TASK


def train_start_model(
    name: str,
    config: StartModelConfig,
    out: str | Path,
    on_stage: Callable[[ToldEntry], None] | None = None,
    progress: bool = False,
) -> Trained:
    """Train the model of a command, or go on with it, in the folder `out`.

    Raises UserError where `out` holds another training, or is in use. progress: draw a line on stderr.
    """
    task, out = task_of(name), Path(out)
    if config.model.startswith(PREFIX):
        config = config.model_copy(update={"model": checkpoint_of(config.model)})
    if waiting := unresolved(config):
        raise UserError(f"{', '.join(waiting)}: give a folder, a hub name, or for a model packaged:name.")
    with run_lock(out), cpu_threads(config.threads), reporting(config, out, on_stage) as report:
        stages = _Stages(task, config, out, report, progress)
        rows = stages.rows()
        trained = stages.train(rows)
        measured = stages.evaluate(rows, trained)
        card = model_card(name, config, stages.manifest.entries)
        return Trained(
            export_model(trained.path, out / task.role, card), task.role, measured.counts, stages.manifest.entries
        )


class _Stages:
    """The stages of one training in `out/stages`; `out/manifest.json` lists them as they finish."""

    def __init__(self, task: Task, config: StartModelConfig, out: Path, report: Reporter, progress: bool):
        self.task, self.config, self.report, self.progress = task, config, report, progress
        self.store = StageStore(out / "stages")
        self.manifest = Manifest({"command": task.name, **results_fields(config)}, out)
        self.checked = False
        self.model = content_hash(config.model)

    def rows(self) -> Artefact:
        """Read, encoded and held out: `train.parquet` and `held_out.parquet`."""
        config, task = self.config, self.task

        def build(folder: Path) -> dict[str, Any]:
            encode = self._told(task.encoder(config, task.tokenizer(config)))
            split = read_split(config.data, task.parse, encode, config.seed)
            self._fits_positions(max(row["length"] for row in (*split.train, *split.held_out)))
            write_rows(folder / "train.parquet", split.train)
            write_rows(folder / "held_out.parquet", split.held_out)
            return split.counts

        inputs = {"model": self.model, "data": content_hash(config.data.path)}
        if config.data.held_out_path:
            inputs["held_out"] = content_hash(config.data.held_out_path)
        template = getattr(config, "chat_template", None)
        if template:
            inputs["chat_template"] = content_hash(template)
        return self._run("rows", build, config.model_dump(exclude=TRAINING_ONLY), inputs)

    def train(self, rows: Artefact) -> Artefact:
        """The trained model, as a `transformers` folder."""
        config, seed = self.config, stable_seed("train", self.task.name, self.config.seed)

        def build(folder: Path) -> dict[str, Any]:
            updates = math.ceil(rows.counts["train"] / config.training.batch_size) * config.training.epochs
            with _Bar(updates, self.task.name, self.progress) as bar:

                def on_log(metrics: dict[str, Any]) -> None:
                    self.report.update(metrics)
                    bar.update(metrics)

                return self.task.train(config, rows / "train.parquet", folder, seed, on_log)

        fields = results_fields(config)
        fields.pop("data")
        if fields.get("launch"):
            from optune.training.launch import launch_key

            fields |= launch_key(config.launch)
        return self._run("train", build, {**fields, "seed": seed}, {"model": self.model, "rows": rows.digest})

    def evaluate(self, rows: Artefact, trained: Artefact) -> Artefact:
        """Measures on the held-out rows, and `held_out.parquet` with what the model makes of each."""

        def build(folder: Path) -> dict[str, Any]:
            return self.task.evaluate(self.config, trained.path, rows / "held_out.parquet", folder)

        fields = {"training": self.config.training.model_dump(), "max_length": self.config.data.max_length}
        if hasattr(self.config, "loss"):
            fields["loss"] = self.config.loss.model_dump()
        inputs = {"model": trained.digest, "rows": rows.digest, "start": self.model}
        return self._run("evaluate", build, fields, inputs)

    def _told(self, encode: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        """`encode`, whose template may refuse a row: a sentence then says which."""

        def told(row: Any) -> dict[str, Any]:
            try:
                return encode(row)
            except (TemplateRefuses, *TEMPLATE_ERRORS) as error:
                reason = error.told if isinstance(error, TemplateRefuses) else first_line(error)
                raise UserError(
                    f"{row.where}: the chat template of {self.config.model!r} does not take it: {reason}; "
                    "use a template that does, or leave the row out."
                ) from None

        return told

    def _fits_positions(self, longest: int) -> None:
        from transformers import AutoConfig

        from optune.loop.checks import positions_of

        config = AutoConfig.from_pretrained(self.config.model, trust_remote_code=self.config.trust_remote_code)
        positions = positions_of(config)
        if positions and longest > positions:
            raise UserError(
                f"The longest row has {longest} tokens, but {self.config.model!r} has {positions} positions; lower "
                "data.max_length."
            )

    def _run(
        self, stage: str, build: Callable[[Path], dict[str, Any]], fields: dict[str, Any], inputs: dict[str, str]
    ) -> Artefact:
        def checked_build(folder: Path) -> dict[str, Any]:
            if not self.checked:
                self.checked = True
                self.task.check(self.config)
            return build(folder)

        name = f"{self.task.name}-{stage}"
        artefact = self.store.run(name, checked_build, fields=fields, inputs=inputs, version=VERSIONS[stage])
        entry = entry_of(0, stage, artefact)
        self.manifest.add(entry)
        self.report.stage({**entry, "reused": artefact.reused})
        return artefact


class _Bar:
    """A line of progress over the updates, with the loss; nothing where it is not wanted."""

    def __init__(self, updates: int, title: str, shown: bool):
        self.bar = tqdm(total=updates, desc=title, unit="update", file=sys.stderr, disable=not shown)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, metrics: dict[str, Any]) -> None:
        self.bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
        self.bar.update()
