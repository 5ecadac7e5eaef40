"""`python -m optune audit RUN_DIR`: whether a run holds what it says. Nothing is written, and nothing is made again.

First every stage by itself: its files against their hashes, its record against its key and against the manifest. Then
the loop is replayed over the finished stages: each key is computed again from the configuration and the inputs that are
there, selection and pairs are made again from the stored rewards, and rows are counted from stage to stage. Every
promise that does not hold is one sentence. That sampling, rewards and weights follow from their inputs is not checked:
it would take as long as the run.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq

from optune.config import RunConfig, differences, parse_config
from optune.history import History, read_responses
from optune.loop.algorithm import loop
from optune.loop.manifest import Manifest, read_run
from optune.loop.plug_in import PASSED
from optune.loop.stages import ON_REQUEST, VERSIONS, Stages
from optune.prompts.files import load_prompts
from optune.prompts.synthetic import held_out_texts, normalised
from optune.reward.functions import PythonReward
from optune.store import STAGE_FILE, Artefact, StageStore, files_of, intact, package_versions, stage_identity, stage_key
from optune.types import UserError
from optune.utils.files import read_json, read_jsonl, read_object
from optune.utils.hashing import stable_hash

RECORD = ("stage", "version", "fields", "inputs", "packages", "key", "digest", "files", "counts", "timing")
IDENTITY = ("stage", "version", "fields", "inputs", "packages")
RECOMPUTED = ("select", "pairs")  # cheap, and the method itself
CARRIES_CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".py", ".so", ".zip"}


@dataclass
class Audit:
    """What was found: one sentence per promise that does not hold, and what was looked at."""

    stages: int = 0
    finished: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield from self.notes
        yield from (f"does not hold: {problem}" for problem in self.problems)
        state = "finished" if self.finished else "not finished"
        several = "s" * (len(self.problems) != 1)
        outcome = f"{len(self.problems)} problem{several}" if self.problems else "all of it holds"
        yield f"{self.stages} stages of a run that is {state}: {outcome}."


def audit_run(run_dir: str | Path) -> Audit:
    """Check the run in `run_dir`. Raises UserError where there is no run, or no readable manifest."""
    manifest = read_run(Path(run_dir))
    config = parse_config(manifest["config"], f"{run_dir}/manifest.json")
    entries, audit = manifest["stages"], Audit(stages=len(manifest["stages"]))
    asked = config.validation
    each = len(VERSIONS) + (asked is not None) + (asked is not None and asked.outcome is not None)
    audit.finished = len(entries) >= (config.iterations + 1) * each
    records = []
    for entry in entries:
        try:
            records.append(_record(entry))
        except UserError as problem:
            audit.problems.append(f"{_name(entry)}: {problem}")
    if audit.problems:
        audit.notes.append("The chain from stage to stage can be followed only where every stage is whole.")
        return audit
    made_with = records[0]["packages"] if records else package_versions()
    if made_with != package_versions():
        told = "; ".join(differences(made_with, package_versions()))
        audit.notes.append(f"Made with other packages than those here ({told}).")
    if given := [n for n in (config.reward.kind, asked and asked.outcome) if n and n.startswith(PASSED)]:
        audit.notes.append(
            f"{' and '.join(given)}: passed from Python, and not here; the hash of the source is taken from the record."
        )
    replay = _Replay(config, Path(run_dir), entries, records, made_with, audit.problems)
    try:
        policies, _ = loop(config, replay)
        audit.finished = len(policies) * each == len(entries)  # validation.patience may end it early
    except _NoMore:
        pass
    except Exception as error:  # whatever an edited file makes of it is a finding
        audit.problems.append(f"{replay.at}: cannot be followed further ({type(error).__name__}: {error}).")
    return audit


# --- a stage by itself -----------------------------------------------------------------------------------------------


def _name(entry: Any) -> str:
    try:
        return f"iteration {entry['iteration']} {entry['stage']}"
    except (TypeError, LookupError):
        return "a stage of the manifest"


def _record(entry: dict[str, Any]) -> dict[str, Any]:
    """The stage's record. Raises UserError where it, its files or its line in the manifest do not agree."""
    if not isinstance(entry, dict) or not {"iteration", "stage", "path", "key", "digest", "counts"} <= entry.keys():
        raise UserError("its line in manifest.json is incomplete.")
    folder = Path(entry["path"])
    if not folder.is_dir():
        raise UserError(f"{folder} is not there (relative paths count from where the run was started).")
    record = read_object(folder / STAGE_FILE, *RECORD)
    recorded, files = record["files"], files_of(folder, record)
    for what, names in (
        ("is missing", recorded.keys() - files.keys()),
        ("was added", files.keys() - recorded.keys()),
        ("is not as it was written", {n for n in files.keys() & recorded.keys() if files[n] != recorded[n]}),
    ):
        if names:
            raise UserError(f"{folder / min(names)} {what}.")
    key = stage_key({name: record[name] for name in IDENTITY})
    if not key == record["key"] == folder.name or record["digest"] != stable_hash(files):
        raise UserError(f"{folder / STAGE_FILE} was edited: its key or digest is not that of what it records.")
    unlike = [name for name in ("stage", "key", "digest", "counts") if entry[name] != record[name]]
    if unlike:
        raise UserError(f"manifest.json and {folder / STAGE_FILE} differ in {', '.join(unlike)}.")
    foreign = [name for name in files if Path(name).suffix in CARRIES_CODE]
    if foreign:
        raise UserError(f"{folder / foreign[0]} can carry code, and no stage writes such a file.")
    return record


# --- the chain -------------------------------------------------------------------------------------------------------


class _NoMore(Exception):
    """The manifest lists no further stage: an unfinished run has been checked as far as it goes."""


class _Shelf(StageStore):
    """Hands out the finished stages in the manifest's order instead of making any, and notes what does not fit."""

    def __init__(self, entries: list[dict[str, Any]], packages: Mapping[str, str], tell: Callable[[str], None]):
        super().__init__(Path(entries[0]["path"]).parents[1] if entries else ".")
        self.left, self.packages, self.tell = list(entries), packages, tell

    def run(
        self,
        stage: str,
        build: Callable[[Path], dict[str, Any]],
        *,
        fields: Mapping[str, Any],
        inputs: Mapping[str, str],
        version: int = 1,
    ) -> Artefact:
        """The listed stage that stands here; a stage that manifests do not list is found by its key."""
        identity = stage_identity(stage, version, fields, inputs, self.packages)
        key = stage_key(identity)
        listed = stage in VERSIONS or stage in ON_REQUEST
        folder = self._next(stage) if listed else self.root / stage / key
        record = read_object(folder / STAGE_FILE, *RECORD)
        if not listed and not intact(folder):
            self.tell(f"{folder} does not hold the files that it records")
        if record["key"] != key:
            for name, given in identity.items():
                unlike = differences({name: record[name]}, {name: json.loads(json.dumps(given))})
                if unlike:
                    self.tell(f"what it was made with is not what the run has there now: {'; '.join(unlike)}")
        if stage in RECOMPUTED:
            self._make_again(folder, record, build)
        return Artefact(folder, record["key"], record["digest"], record["counts"], record["timing"], reused=True)

    def _next(self, stage: str) -> Path:
        if not self.left:
            raise _NoMore
        entry = self.left.pop(0)
        if entry["stage"] != stage:
            raise UserError(f"the manifest has {entry['stage']!r} in the place of {stage!r}.")
        return Path(entry["path"])

    def _make_again(self, folder: Path, record: dict[str, Any], build: Callable[[Path], dict[str, Any]]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            counts = json.loads(json.dumps(build(Path(scratch))))
            unlike = [name for name in record["files"] if not _same(folder / name, Path(scratch) / name)]
        if unlike:
            self.tell(f"{folder / unlike[0]} is not what the stored rewards give")
        elif counts != record["counts"]:
            self.tell(f"counts are not those of its rows: {'; '.join(differences(record['counts'], counts))}")


def _same(a: Path, b: Path) -> bool:
    """Whether two files say the same; a Parquet file's bytes also depend on the version that wrote it."""
    if a.suffix == ".parquet":
        return b.exists() and pq.read_table(a).equals(pq.read_table(b))
    return b.exists() and a.read_bytes() == b.read_bytes()


class _Read(Manifest):
    """The manifest whose configuration it is stays as it is."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.held_out: dict[str, Any] = {}

    def add(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)


@dataclass(frozen=True)
class _Passed(PythonReward):
    """Functions that were passed to `run_optune`: what is known of them is the hash of their source."""

    recorded: str = ""

    def inputs(self) -> dict[str, str]:
        return {**super().inputs(), "reward_source": self.recorded}


def _functions(config: RunConfig, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Reward and outcome of a run as `Stages` takes them, where they were passed to it and are not in `config`."""
    first = {record["stage"]: record for record in reversed(records)}
    given: dict[str, Any] = {}
    if config.reward.kind.startswith(PASSED):
        source = first["score"]["inputs"]["reward_source"] if "score" in first else ""
        given["functions"] = replace(_Passed.of({}, config), recorded=source)
    asked = config.validation
    if asked and (asked.outcome or "").startswith(PASSED):
        source = first["outcome"]["inputs"]["reward_source"] if "outcome" in first else ""
        given["outcome"] = _Passed({}, ((asked.path, asked.split, None),), "outcome", source)
    return given


class _Replay(Stages):
    """The loop's stages, none of them made; after each one its rows are counted."""

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        entries: list[dict[str, Any]],
        records: list[dict[str, Any]],
        packages: Mapping[str, str],
        problems: list[str],
    ):
        super().__init__(config, run_dir, run_dir / "stages", manifest=_Read(), **_functions(config, records))
        trained = next((record["fields"] for record in records if record["stage"] == "train"), {})
        self.callbacks_key = {"callbacks": trained["callbacks"]} if "callbacks" in trained else {}
        self.at = "before the first stage"
        self.store = _Shelf(entries, packages, lambda text: problems.append(f"{self.at}: {text}."))
        self.made: dict[str, Artefact] = {}

    def _run(self, t: int, stage: str, *rest: Any) -> Artefact:
        self.at = f"iteration {t} {stage}"
        self.made[stage] = artefact = super()._run(t, stage, *rest)
        for sentence in getattr(self, f"_check_{stage}", lambda *_: ())(t, artefact):
            self.store.tell(sentence)
        return artefact

    def _check_prompts(self, t: int, made: Artefact) -> Iterator[str]:
        ids = [p.prompt_id for p in load_prompts(made / "prompts.parquet")]
        counts = made.counts
        yield from _unequal("prompts", len(ids), counts["used"])
        yield from _unequal("prompts offered", counts["used"] + counts["too_long"], counts["offered"])
        if "repeated" in counts:
            distinct = counts["rows"] - counts["repeated"]
            drawn = min(distinct, self.config.prompts.limit or distinct)
            yield from _unequal("prompts offered", drawn, counts["offered"])
        if "written" in counts:
            yield from self._check_written(made, set(ids))

    def _check_written(self, made: Artefact, used: set[str]) -> Iterator[str]:
        """Prompts that a writer made: every line is used or left out by a reason, and none used is an evaluation's."""
        counts, options = made.counts, self.config.prompts.synthetic
        yield from _unequal(
            "lines of the writer", counts["offered"] + sum(counts["left_out"].values()), counts["written"]
        )
        rows = [row for _, row in read_jsonl(made / "written.jsonl")]
        fates = Counter(row["fate"] for row in rows)
        for fate, count in fates.items():
            yield from _unequal(f"prompts {fate}", count, counts["left_out"].get(fate, counts["offered"]))
        if used - {stable_hash(row["prompt"], ())[:16] for row in rows if row["fate"] == "used"}:
            yield "it holds a prompt that the writer did not write"
        held_out = set().union(*map(held_out_texts, options.held_out)) if options else set()
        if held_out & {normalised(p.text) for p in load_prompts(made / "prompts.parquet")}:
            yield "it holds a prompt of an evaluation set"

    def _check_generate(self, t: int, made: Artefact) -> Iterator[str]:
        rows = read_responses(made / "responses.parquet")
        selected = read_json(self.made["select"] / "selected.json")
        answered = {r.prompt_id for r in rows}
        refused = sum(made.counts.get("refused", {}).values())
        yield from _unequal("prompts without responses", len(set(selected) - answered), refused)
        asked = Counter(name for name in selected if name in answered or not refused)
        expected: Counter[tuple[str, int]] = Counter()
        for name, times in asked.items():
            expected.update((name, index) for index in range(times * self.config.generation.n))
        if Counter((r.prompt_id, r.index) for r in rows) != expected:
            n, prompts = self.config.generation.n, len(set(selected))
            each = ", as often as it was selected" if prompts < len(selected) else ""
            yield f"its responses are not {n} to each of the {prompts} selected prompts{each}"
        if {r.iteration for r in rows} - {t}:
            yield "it holds responses of another iteration"
        yield from _unequal("responses", len(rows), made.counts["responses"])
        yield from _unequal("tokens", sum(len(r.token_ids) for r in rows), made.counts["tokens"])

    def _check_score(self, t: int, made: Artefact) -> Iterator[str]:
        fresh = pq.read_table(self.made["generate"] / "responses.parquet").drop_columns("reward")
        scored = pq.read_table(made / "history.parquet")
        if not scored.drop_columns("reward").equals(fresh):
            yield "its rows are not the responses that were sampled"
        rewards = scored["reward"].to_pylist()
        if not all(r is not None and math.isfinite(r) for r in rewards):
            yield "it holds a reward that is not a finite number"
        yield from _unequal("rewards", len(rewards), made.counts["rewards"])
        penalty = self.config.reward.length_penalty
        if penalty is not None:
            raw = read_json(made / "raw_rewards.json")
            texts = scored["text"].to_pylist()
            if [r - penalty * len(text) for r, text in zip(raw, texts, strict=True)] != rewards:
                yield f"its rewards are not the model's less {penalty:g} for each character"

    def _check_pairs(self, t: int, made: Artefact) -> Iterator[str]:
        """Groups of responses in = pairs + groups left out, counted without the code that pairs."""
        sets = self.asked if self.config.pairs.view == "all" else self.asked[-1:]
        wanted: set[str] = set()
        for artefact in sets:
            wanted |= {prompt.prompt_id for prompt in load_prompts(artefact / "prompts.parquet")}
        frame = History(self.scored).numbers
        frame = frame[frame["prompt_id"].isin(wanted)]
        if self.config.pairs.view == "fresh":
            frame = frame[frame["iteration"] == t]
        by = ["prompt_id"] if self.config.pairs.view == "latest" else ["prompt_id", "iteration"]
        offline = made.counts.get("offline", {"offered": 0, "pairs": 0, "left_out": {}})
        used = made.counts["pairs"] - offline["pairs"] + sum(made.counts["left_out"].values())
        yield from _unequal("groups of responses", len(frame.drop_duplicates(by)), used)
        yield from _unequal("offline pairs", offline["pairs"] + sum(offline["left_out"].values()), offline["offered"])
        yield from _unequal("pairs", pq.read_metadata(made / "pairs.parquet").num_rows, made.counts["pairs"])

    def _check_train(self, t: int, made: Artefact) -> Iterator[str]:
        from safetensors import safe_open

        for file in sorted(made.path.glob("*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118 (no mapping)
                    if not weights.get_tensor(name).isfinite().all():
                        yield f"{file}: the weight {name} is not finite"

    def _check_validate(self, t: int, made: Artefact) -> Iterator[str]:
        answers = read_responses(made / "answers.parquet")
        refused = sum(made.counts.get("refused", {}).values())
        expected = self.config.validation.n * (made.counts["offered"] - made.counts["too_long"] - refused)
        yield from _unequal("answers", len(answers), made.counts["responses"])
        yield from _unequal("answers", len(answers), expected)
        if not all(r.reward is not None and math.isfinite(r.reward) for r in answers):
            yield "it holds a reward that is not a finite number"
        elif not math.isclose(fmean(r.reward for r in answers), made.counts["reward_mean"], rel_tol=1e-12):
            yield "its mean reward is not that of its answers"

    def _check_outcome(self, t: int, made: Artefact) -> Iterator[str]:
        answers = pq.read_table(self.made["validate"] / "answers.parquet", columns=["prompt_id", "index"])
        measured = pq.read_table(made / "outcomes.parquet")
        values = measured["outcome"].to_pylist()
        if measured.select(["prompt_id", "index"]).to_pylist() != answers.to_pylist():
            yield "its rows are not the validation answers"
        yield from _unequal("outcomes", len(values), made.counts["answers"])
        if not all(map(math.isfinite, values)):
            yield "it holds an outcome that is not a finite number"
        elif not math.isclose(fmean(values), made.counts["outcome_mean"], rel_tol=1e-12, abs_tol=1e-12):
            yield "its mean outcome is not that of its answers"

    def _held_out(self, entry: dict[str, Any]) -> list[str]:
        """Nothing is written."""
        return []

    @property
    def scored(self) -> tuple[Path, ...]:
        """The history's files so far."""
        return tuple(Path(e["path"]) / "history.parquet" for e in self.entries if e["stage"] == "score")


def _unequal(what: str, stored: int, counted: int) -> Iterator[str]:
    if stored != counted:
        yield f"it counts {counted} {what}, and there are {stored}"
