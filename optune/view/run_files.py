"""The files of a run as columns: its prompts, and every response and pair as numbers, with the texts left on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optune.history import read_rows
from optune.loop.held_out import HeldOut, told_of
from optune.loop.manifest import read_run
from optune.types import UserError

NEVER = -1  # the iteration of a prompt that was never sampled, and of pairs that are older than the run
PAIR_COLUMNS = ["prompt_id", "score_chosen", "score_rejected"]
PAIR_COLUMNS += [f"{side}_{name}" for side in ("chosen", "rejected") for name in ("index", "iteration")]


@dataclass(frozen=True)
class RunFiles:
    """A run as its manifest lists it now; a run under way has fewer stages, and all that it lists is whole.

    entries: the manifest's lines by (iteration, stage).
    """

    run_dir: Path
    config: dict[str, Any]
    entries: dict[tuple[int, str], dict[str, Any]]

    @classmethod
    def read(cls, run_dir: str | Path) -> RunFiles:
        """Raises UserError where `run_dir` holds no run, or one that has sampled and rewarded nothing yet."""
        manifest = read_run(Path(run_dir))
        try:
            entries = {(entry["iteration"], entry["stage"]): entry for entry in manifest["stages"]}
        except (TypeError, KeyError):
            raise UserError(f"{run_dir}/manifest.json: a line of its stages is incomplete; restore it.") from None
        run = cls(Path(run_dir), manifest["config"], entries)
        if not run.iterations:
            raise UserError(f"{run_dir}: no response has been rewarded yet; look again once iteration 0 is scored.")
        return run

    @cached_property
    def iterations(self) -> list[int]:
        """Those whose responses have been sampled and rewarded: 0, 1, ..."""
        scored = {t for t, stage in self.entries if stage == "score"}
        return [t for t in sorted(scored) if {(t, "prompts"), (t, "select"), (t, "generate")} <= self.entries.keys()]

    @property
    def last_iteration(self) -> int:
        """The number of the run's last iteration, once it is done."""
        return int(self.config.get("iterations", self.iterations[-1]))

    @property
    def finished(self) -> bool:
        """Whether the last stage of the last iteration is there."""
        validation = self.config.get("validation")
        measured = "train" if self.config.get("kl_prompts") == 0 else "kl"
        last = measured if not validation else "outcome" if validation.get("outcome") else "validate"
        return (self.last_iteration, last) in self.entries or (self.held_out is not None and self.held_out.stops)

    @cached_property
    def held_out(self) -> HeldOut | None:
        """What the answers to validation prompts say so far; None without any."""
        return HeldOut.of(self.entries.values(), self.config.get("validation"), self.file)

    @property
    def told(self) -> list[str]:
        """Sentences on reward and outcome, iteration by iteration."""
        return told_of(self.entries.values(), self.config.get("validation"), self.last_iteration, self.file)

    def counts(self, t: int, stage: str) -> dict[str, Any]:
        """What a stage counted; nothing where it has not been made."""
        return self.entries.get((t, stage), {}).get("counts", {})

    def seconds(self, t: int, stage: str) -> float:
        return float(self.entries.get((t, stage), {}).get("timing", {}).get("wall_s", 0.0))

    def memory(self, t: int) -> float | None:
        """The highest memory peak of an iteration's stages in 10^9 bytes; None where none was recorded."""
        timings = [entry.get("timing", {}) for (at, _), entry in self.entries.items() if at == t]
        return max((timing["memory_peak_gb"] for timing in timings if "memory_peak_gb" in timing), default=None)

    def file(self, t: int, stage: str, name: str) -> Path:
        """A stage's file, where it was written or where a run directory that was moved has it now."""
        entry = self.entries[t, stage]
        places = [Path(entry["path"]), self.run_dir / "stages" / stage / str(entry["key"])]
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is None:
            raise UserError(
                f"{places[0] / name} is not there; start `view` where the run was started, or with its whole directory."
            )
        return found

    @cached_property
    def prompts(self) -> pa.Table:
        """Every prompt of the run once: prompt_id, prompt (its text), messages (JSON, or null) and category."""
        columns = ["prompt_id", "prompt", "messages", "category"]
        digests: dict[str, pa.Table] = {}
        for t in self.iterations:
            digest = self.entries[t, "prompts"]["digest"]
            if digest not in digests:
                digests[digest] = pq.read_table(self.file(t, "prompts", "prompts.parquet"), columns=columns)
        table = pa.concat_tables(digests.values()).combine_chunks()
        if len(digests) == 1:
            return table
        return table.take(np.sort(np.unique(table["prompt_id"].to_numpy(), return_index=True)[1]))

    def places(self, prompt_ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> np.ndarray:
        """Of each id its row in `prompts`; -1 for an id that is none of the run's."""
        if not isinstance(prompt_ids, pa.Array | pa.ChunkedArray):
            prompt_ids = pa.array(prompt_ids, pa.string())
        found = pc.index_in(prompt_ids, value_set=self.prompts["prompt_id"].combine_chunks())
        return pc.fill_null(found, -1).to_numpy()

    def asked(self, t: int) -> np.ndarray:
        """The rows in `prompts` of iteration `t`'s prompt set."""
        return self.places(
            pq.read_table(self.file(t, "prompts", "prompts.parquet"), columns=["prompt_id"])["prompt_id"]
        )

    @cached_property
    def responses(self) -> pd.DataFrame:
        """A row per response: iteration, index, place (of its prompt), reward, tokens, truncated, size (bytes)."""
        tables = [self._numbers(batch) for t in self.iterations for batch in self._batches(t)]
        return pd.concat(tables, ignore_index=True)

    def _batches(self, t: int) -> Iterator[pa.RecordBatch]:
        columns = ["prompt_id", "index", "iteration", "token_ids", "text", "finish_reason", "reward"]
        return read_rows(self.file(t, "score", "history.parquet"), columns)

    def _numbers(self, batch: pa.RecordBatch) -> pd.DataFrame:
        columns = {
            "iteration": batch["iteration"],
            "index": batch["index"],
            "place": self.places(batch["prompt_id"]),
            "reward": batch["reward"],
            "tokens": pc.list_value_length(batch["token_ids"]),
            "truncated": pc.equal(batch["finish_reason"], "length"),
            "size": pc.binary_length(batch["text"]),
        }
        return pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})

    def pairs(self, t: int) -> pd.DataFrame | None:
        """A row per pair of iteration `t`: place, score and origin of both sides; None before they are made."""
        if (t, "pairs") not in self.entries:
            return None
        table = pq.read_table(self.file(t, "pairs", "pairs.parquet"), columns=PAIR_COLUMNS)
        frame = table.drop_columns("prompt_id").to_pandas()
        return frame.assign(place=self.places(table["prompt_id"]))

    def texts(self, wanted: np.ndarray) -> Iterator[dict[str, Any]]:
        """The responses (place, iteration, index, text, finish_reason, ...) of the prompts of a boolean mask."""
        for t in self.iterations:
            for batch in self._batches(t):
                places = self.places(batch["prompt_id"])
                mine = np.flatnonzero((places >= 0) & wanted[places])
                columns = ["index", "iteration", "text", "finish_reason", "reward"]
                rows = batch.select(columns).take(mine).to_pylist()
                tokens = pc.list_value_length(batch["token_ids"]).take(pa.array(mine)).to_pylist()
                for row, place, length in zip(rows, places[mine].tolist(), tokens, strict=True):
                    yield {**row, "place": place, "tokens": length}
