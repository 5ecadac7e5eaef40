"""The steps of the loop as stages: what each reads and writes, and what its key depends on.

`run.py` is Algorithm 1; this file is where its lines meet the files. TRL and transformers are imported inside the stage
that needs them, so that a run whose stages are all there returns at once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from heapq import nsmallest
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pyarrow.parquet as pq

from optune import sandbox
from optune.artefacts import (
    Artefact,
    StageStore,
    content_hash,
    prune,
    read_json,
    read_object,
    sha256_of,
    stable_hash,
    stable_seed,
    write_json,
)
from optune.config import OPERATIONAL, RunConfig, SamplingSettings, differences
from optune.generate import ENGINES, encode_prompts, identity
from optune.history import ROWS, History, chunks, iter_responses, read_responses, write_responses
from optune.learners import DEFAULT, LEARNERS, Step
from optune.losses import LOSSES
from optune.offline_pairs import OfflinePairs, read_offline_pairs
from optune.pairs import PAIRINGS, pair_gaps, training_rows, write_pairs
from optune.prompt_writer import written_with
from optune.prompts import (
    SOURCES,
    SourceTools,
    load_prompts,
    sample_of,
    stored_prompts,
    stored_texts,
    variation,
    write_prompts,
)
from optune.registry import resolve
from optune.reward import REWARDS
from optune.reward.length_penalty import penalised
from optune.selection import STRATEGIES, select_prompts
from optune.types import Prompt, Response, UserError

# Raised by one when a stage's code changes what it writes, so that old artefacts are not taken for new ones.
VERSIONS = {"prompts": 1, "select": 1, "generate": 1, "score": 1, "pairs": 1, "train": 2, "kl": 2}
ON_REQUEST = {"validate": 1}  # stages that only some configurations have
PARTS_OF = {
    "prompts": ("source",),
    "select": ("strategy",),
    "generate": ("engine",),
    "kl": ("engine",),
    "score": ("reward",),
    "pairs": ("pairing",),
    "train": ("loss", "learner"),
    "validate": ("engine", "reward"),
}
KL_PROMPTS = 256
SAMPLED = [f"{side}_{name}" for side in ("chosen", "rejected") for name in ("iteration", "logprob")]  # of the pairs

OnStage = Callable[[dict[str, Any]], None]
OnProgress = Callable[[int, int], None]  # (responses sampled, responses in all) of the stage under way
OnLog = Callable[[dict[str, Any]], None]  # the metrics of an update, as training makes it


class Stages:
    """The stages of one run, each skipped when its key matches; `manifest.json` lists them as they finish."""

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        store: Path,
        on_stage: OnStage | None = None,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
    ):
        self.config = config
        self.run_dir = run_dir
        self.store = StageStore(store)
        self.on_stage = on_stage or (lambda entry: None)
        self.on_progress = on_progress
        self.on_log = on_log
        self.entries: list[dict[str, Any]] = []
        self.asked: list[Artefact] = []  # each iteration's prompts
        self.parts = _parts(config)
        _check_training(config)
        self._check_same_configuration()

    def prompts(self, t: int, policy: str, history: History) -> Artefact:
        """This iteration's prompt set, without those longer than the limit (counted, never cut)."""
        settings = self.config.prompts

        def build(folder: Path) -> dict[str, Any]:
            tools = self._tools(t, policy, folder)
            where = {"iteration": t, "iterations": self.config.iterations + 1}
            offered = self.parts["source"](
                settings, **where, policy=policy, history=history, seed=self.config.seed, tools=tools
            )
            _, too_long = encode_prompts(self._tokenizer(policy), offered, settings.max_tokens)
            long = set(too_long)
            kept = [p for p in offered if p.prompt_id not in long]
            if not kept:
                raise UserError(f"{settings.path}: every prompt is longer than {settings.max_tokens} tokens.")
            write_prompts(folder / "prompts.parquet", kept)
            return {**tools.counts, "offered": len(offered), "used": len(kept), "too_long": len(too_long)}

        inputs = {"file": content_hash(settings.path), "policy": content_hash(policy), **_files(history)}
        fields = {"prompts": settings.model_dump(exclude=OPERATIONAL["prompts"]), "seed": self.config.seed}
        if settings.synthetic:  # what the answers to the reference set and the writing of prompts depend on
            fields |= {"answers": self._answers_identity, "written_with": written_with(settings.synthetic)}
            inputs |= {"start": content_hash(self.config.policy.model), **self._reward_inputs}
            inputs |= {f"held_out_{i}": content_hash(path) for i, path in enumerate(settings.synthetic.held_out)}
        if variation(self.parts["source"]) == "with_iteration":
            fields |= {"iteration": t, "iterations": self.config.iterations + 1}
        self.asked.append(self._run(t, "prompts", build, fields, inputs))
        return self.asked[-1]

    def _tools(self, t: int, policy: str, folder: Path) -> SourceTools:
        """What a source may use in iteration `t`."""

        def answer(prompts: Sequence[Prompt], n: int, start: bool = False) -> list[Response]:
            return self._answer(self.config.policy.model if start else policy, prompts, n, 0 if start else t, counts)

        counts: dict[str, Any] = {}
        replies = self.store.root / "writer" / f"replies-seed{self.config.seed}.jsonl"
        return SourceTools(answer, replies, folder, counts)

    def _answer(self, policy: str, prompts: Sequence[Prompt], n: int, t: int, counts: dict[str, Any]) -> list[Response]:
        """`n` rewarded responses to each prompt that is not too long; made once, whoever asks.

        Seconds go to `counts`; they are those of the first time.
        """
        settings = self.config.sampling().model_copy(update={"n": n})
        seed = stable_seed("answers", self.config.seed)

        def build(folder: Path) -> dict[str, Any]:
            _, too_long = encode_prompts(self._tokenizer(policy), prompts, settings.max_prompt_tokens)
            long = set(too_long)
            asked = [p for p in prompts if p.prompt_id not in long]
            lengths = _Lengths()
            drawn = self._sample(policy, asked, len(asked), settings, seed, t, tell=False)
            write_responses(folder / "answers.parquet", self._score(asked, map(lengths.see, drawn)))
            return {"too_long": len(too_long), **lengths.counts()}

        asked = stable_hash([(p.prompt_id, p.text, p.messages) for p in prompts])
        fields = {**self._answers_identity, "n": n, "seed": seed, "iteration": t, "prompts": asked}
        made = self.store.run(
            "answers", build, fields=fields, inputs={"policy": content_hash(policy), **self._reward_inputs}
        )
        seconds = counts.setdefault("seconds", {})
        seconds["answers_s"] = seconds.get("answers_s", 0.0) + made.timing["wall_s"]
        return read_responses(made / "answers.parquet")

    @property
    def _answers_identity(self) -> dict[str, Any]:
        """What decides answers that a source asks for, but for policy, prompts and reward model."""
        reward = _without_paths(self.config.reward.model_dump())
        return {"generation": identity(self.config.sampling()), "reward": reward, **self._threads}

    @property
    def _reward_inputs(self) -> dict[str, str]:
        inputs = {"reward_model": content_hash(self.config.reward.model)} if self.config.reward.model else {}
        return {"reward_model": sandbox.content_hash()} if self.config.reward.kind == "gold" else inputs

    def select(self, t: int, prompts: Artefact, history: History) -> Artefact:
        """Lines 4-7 and 10. Iteration 0 regenerates every prompt, whatever the strategy, so that arms share it."""
        settings = self.config.selection
        strategy, ratio = ("all", 1.0) if t == 0 else (settings.strategy, settings.ratio)
        offsets = self._offsets(prompts) if t > 0 and settings.offset_samples else None

        def build(folder: Path) -> dict[str, Any]:
            ids, texts = (column.to_pylist() for column in stored_texts(prompts / "prompts.parquet"))
            means = read_json(offsets / "offsets.json") if offsets else None
            view = history.view(ids, t, self.config.seed, texts, means and [means[i] for i in ids])
            selected = select_prompts(view, ratio, strategy)
            write_json(folder / "selected.json", selected)
            return {"prompts": len(ids), "selected": len(selected), "reused": len(ids) - len(selected)}

        fields = {"strategy": strategy, "ratio": ratio, "seed": self.config.seed, "iteration": t}
        inputs = {"prompts": prompts.digest, **_files(history)}
        return self._run(t, "select", build, fields, inputs | ({"offsets": offsets.digest} if offsets else {}))

    def _offsets(self, prompts: Artefact) -> Artefact:
        """The mean reward of each prompt under the start policy: what a Bradley-Terry reward leaves free per prompt.

        Sampled once per run, by streams of their own, so that ranking and offset share no noise; not in the ledger.
        """
        settings = self.config.sampling().model_copy(update={"n": self.config.selection.offset_samples})
        seed = stable_seed("offsets", self.config.seed)

        def build(folder: Path) -> dict[str, Any]:
            asked = stored_prompts(prompts / "prompts.parquet")
            drawn = self._sample(self.config.policy.model, asked, prompts.counts["used"], settings, seed, 0)
            rewards: dict[str, list[float]] = {}
            for response in self._score(stored_prompts(prompts / "prompts.parquet"), drawn):
                rewards.setdefault(response.prompt_id, []).append(response.reward)
            write_json(folder / "offsets.json", {i: fmean(values) for i, values in rewards.items()})
            return {"responses": sum(map(len, rewards.values()))}

        fields = {"generation": identity(settings), "seed": seed, **self._threads}
        fields["reward"] = _without_paths(self.config.reward.model_dump())
        inputs = {"policy": content_hash(self.config.policy.model), "prompts": prompts.digest}
        inputs |= {"reward_model": content_hash(self.config.reward.model)} if self.config.reward.model else {}
        return self.store.run("offsets", build, fields=fields, inputs=inputs)

    def generate(self, t: int, policy: str, prompts: Artefact, selected: Artefact) -> Artefact:
        """Line 8: fresh responses, in the prompts' order, so that the ranking does not enter the key."""
        settings = self.config.sampling()
        wanted = set(read_json(selected / "selected.json"))

        def build(folder: Path) -> dict[str, Any]:
            asked = (p for p in stored_prompts(prompts / "prompts.parquet") if p.prompt_id in wanted)
            lengths = _Lengths()
            sampled = self._sample(policy, asked, len(wanted), settings, self.config.seed, t)
            write_responses(folder / "responses.parquet", map(lengths.see, sampled))
            return {"prompts": len(wanted), **lengths.counts()}

        inputs = {"policy": content_hash(policy), "prompts": prompts.digest, "selected": stable_hash(sorted(wanted))}
        fields = {"generation": identity(settings), "seed": self.config.seed, "iteration": t, **self._threads}
        return self._run(t, "generate", build, fields, inputs)

    def score(self, t: int, prompts: Artefact, responses: Artefact) -> Artefact:
        """Line 19: rewards of the fresh responses only. What it writes is the iteration's part of the history.

        With a length penalty the history has the penalised rewards, and `raw_rewards.json` the model's own, in the
        same order.
        """
        settings = self.config.reward

        def build(folder: Path) -> dict[str, Any]:
            rewards: list[float] = []
            raw: list[float] = []

            def scored() -> Iterator[Response]:
                asked = stored_prompts(prompts / "prompts.parquet")
                for response in self._score(asked, iter_responses(responses / "responses.parquet"), raw):
                    rewards.append(response.reward)
                    yield response

            write_responses(folder / "history.parquet", scored())
            counts = {"rewards": len(rewards), "reward_mean": fmean(rewards) if rewards else None}
            if settings.length_penalty is None:
                return counts
            write_json(folder / "raw_rewards.json", raw)
            return {**counts, "raw_reward_mean": fmean(raw) if raw else None}

        inputs = {"prompts": prompts.digest, "responses": responses.digest, **self._reward_inputs}
        fields = {"reward": _without_paths(settings.model_dump()), "seed": self.config.seed, **self._threads}
        return self._run(t, "score", build, fields, inputs)

    def pairs(self, t: int, prompts: Artefact, history: History) -> Artefact:
        """Lines 12-18 and 20: fresh and reused responses as pairs; groups that make none are counted by reason.

        Pairs of `pairs.offline` count as older than any: a view of the newest or of all has them in every iteration,
        one of the fresh alone in iteration 0. Where pairs may be of other prompts than this iteration's,
        `prompts.parquet` beside them has all of theirs.
        """
        settings = self.config.pairs
        earlier = self._earlier_prompts(prompts) if settings.view == "all" else []
        hybrid = settings.offline is not None and (settings.view != "fresh" or t == 0)

        def build(folder: Path) -> dict[str, Any]:
            asked, offline = prompts / "prompts.parquet", OfflinePairs()
            if earlier or hybrid:
                online = _together([*earlier, prompts])
                offline = self._offline_pairs(online) if hybrid else offline
                asked = _beside(folder, list((online | offline.prompts).values()))
            ids, texts = stored_texts(asked)
            rows = training_rows(history, settings.view, t, ids)
            more, words_only = [offline.table] if hybrid else [], bool(settings.without_words)
            written = write_pairs(folder / "pairs.parquet", rows, settings.pairing, texts, words_only, more)
            gaps, reused = written.gaps, sum(iteration < t for iteration in written.iterations)
            counts = {"pairs": len(gaps) + len(offline.pairs), "left_out": dict(written.left_out), "reused": reused}
            counts |= {"responses_without_words": written.wordless} if written.wordless else {}
            margins = {"reward_gap_mean": fmean(gaps), "reward_gap_median": median(gaps)} if gaps else {}
            return {**counts, **margins, **({"offline": offline.counts} if hybrid else {})}

        fields = {**settings.model_dump(exclude={"offline"}), "iteration": t}
        inputs = {"prompts": prompts.digest, **_files(history)}
        inputs |= {f"prompts_{place}": artefact.digest for place, artefact in enumerate(earlier)}
        if hybrid:
            fields |= {"offline": [self.config.prompts.max_tokens, self.config.generation.max_new_tokens]}
            inputs |= {"offline": content_hash(settings.offline), "policy": content_hash(self.config.policy.model)}
        return self._run(t, "pairs", build, fields, inputs)

    def train(self, t: int, policy: str, reference: str, prompts: Artefact, pairs: Artefact, beta_2: float) -> Artefact:
        """Line 22: the policy of the next iteration, trained from `policy`."""
        config, seed = self.config, stable_seed("train", self.config.seed, t)

        def build(folder: Path) -> dict[str, Any]:
            asked, rows = (
                load_prompts(prompts / "prompts.parquet"),
                partial(self._training_rows, t, policy, prompts, pairs),
            )
            step = Step(config, t, policy, reference, asked, rows, self._scorer, beta_2, seed, self.on_log)
            return self.parts["learner"](step, folder)

        # What the loss does not read is no part of the key: arms that differ only there share the step.
        loss = {"name": config.loss.name, "beta_1": config.loss.beta_1}
        loss |= {"beta_2": beta_2} if config.loss.name != "dpo" else {}
        fields = {"loss": loss, "training": config.training.model_dump(), "seed": seed, **self._threads}
        if config.launch:
            from optune.launch import identity as launched

            fields |= launched(config.launch)
        inputs = {"prompts": prompts.digest, "pairs": pairs.digest}
        inputs |= {"policy": content_hash(policy), "reference": content_hash(reference)}
        if config.training.learner:  # it may sample and reward on its own
            fields |= {"sampling": self._answers_identity}
            inputs |= self._reward_inputs
        before = [entry["path"] for entry in self.entries if entry["stage"] == "train"]
        trained = self._run(t, "train", build, fields, inputs)
        if config.keep == "last" and before:
            prune(Path(before[-1]))
        return trained

    def kl(self, t: int, sft: str, policy: str, prompts: Artefact) -> Artefact:
        """KL(pi || pi_SFT) in nats per response of the policy just trained: reward hacking shows here first.

        Estimated on one fresh response to each of the same KL_PROMPTS prompts in every iteration and arm, so that
        numbers compare; where a source gives another set in each iteration, they are of its first one.
        Log-probabilities are untruncated ones at temperature 1, while the responses are drawn as configured: with
        top_p < 1 it is an estimate on the nucleus.
        """
        settings = self.config.sampling().model_copy(update={"n": 1})
        prompts = (self.asked or [prompts])[0]

        def build(folder: Path) -> dict[str, Any]:
            asked = stored_prompts(prompts / "prompts.parquet")
            asked = nsmallest(KL_PROMPTS, asked, key=lambda p: stable_hash("kl", p.prompt_id))
            sampled = self._sample(policy, asked, len(asked), settings, stable_seed("kl", self.config.seed), t)
            measured = [(p, r) for p, r in zip(asked, sampled, strict=True) if r.logprob is not None]
            return {"responses": len(measured), "kl_to_sft": self._kl(sft, measured) if measured else None}

        inputs = {"sft": content_hash(sft), "policy": content_hash(policy), "prompts": prompts.digest}
        fields = {"prompts": KL_PROMPTS, "generation": identity(settings), "seed": self.config.seed, "iteration": t}
        return self._run(t, "kl", build, {**fields, **self._threads}, inputs)

    def validate(self, t: int, policy: str) -> Artefact:
        """The mean reward of the policy just trained on the validation prompts: the best one's is the highest."""
        settings, asking = self.config.validation, self.config.validating()

        def build(folder: Path) -> dict[str, Any]:
            offered = sample_of(load_prompts(settings.path, settings.split), settings.limit, 0)
            long = set(encode_prompts(self._tokenizer(policy), offered, asking.max_prompt_tokens)[1])
            asked = [p for p in offered if p.prompt_id not in long]
            if not asked:
                raise UserError(f"{settings.path}: every prompt is longer than {asking.max_prompt_tokens} tokens.")
            seed, lengths = stable_seed("validate", self.config.seed), _Lengths()
            answers = map(lengths.see, self._sample(policy, asked, len(asked), asking, seed, t, tell=False))
            raw: list[float] = []
            scored = list(self._score(asked, answers, raw))
            write_responses(folder / "answers.parquet", scored)
            counts = {"offered": len(offered), "too_long": len(long), **lengths.counts()}
            counts["reward_mean"] = fmean(r.reward for r in scored)
            counts["tokens_validation"] = counts.pop("tokens")
            return {**counts, **({} if self.config.reward.length_penalty is None else {"raw_reward_mean": fmean(raw)})}

        fields = {"generation": identity(asking), "reward": _without_paths(self.config.reward.model_dump())}
        fields |= {"limit": settings.limit, "seed": self.config.seed, "iteration": t, **self._threads}
        inputs = {"file": content_hash(settings.path), "policy": content_hash(policy), **self._reward_inputs}
        return self._run(t, "validate", build, fields, inputs)

    def beta_2(self, history: History) -> float:
        """beta_2 of Eq. 6 as configured; `auto` is 1 / the median reward gap of iteration 0's pairs."""
        if self.config.loss.beta_2 != "auto":
            return self.config.loss.beta_2
        if self.config.loss.name == "dpo":
            return 0.0  # Eq. 5 has none
        first = History(history.files[:1])
        ids = pq.read_table(first.files[0], columns=["prompt_id"])["prompt_id"].unique()
        gaps: list[float] = []
        for rows in training_rows(first, "all", 0, ids):
            gaps += pair_gaps(rows, self.config.pairs.pairing, bool(self.config.pairs.without_words))
        if not gaps:
            raise UserError("loss.beta_2=auto needs pairs with different rewards in iteration 0; there are none.")
        return 1.0 / median(gaps)

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _run(
        self,
        t: int,
        stage: str,
        build: Callable[[Path], dict[str, Any]],
        fields: dict[str, Any],
        inputs: dict[str, str],
    ) -> Artefact:
        outside = {name: _source_hash(self.parts[name]) for name in PARTS_OF.get(stage, ())}
        inputs = {**inputs, **{name: found for name, found in outside.items() if found}}
        version = (VERSIONS | ON_REQUEST)[stage]
        artefact = self.store.run(stage, build, fields=fields, inputs=inputs, version=version)
        entry = {
            "iteration": t,
            "stage": stage,
            "path": str(artefact.path),
            "key": artefact.key,
            "digest": artefact.digest,
            "counts": artefact.counts,
            "timing": artefact.timing,
        }
        self.entries.append(entry)
        self._write_manifest()
        self.on_stage({**entry, "reused": artefact.reused})
        return artefact

    def _write_manifest(self) -> None:
        if len(self.entries) >= self.listed:  # while a run is being continued, its manifest does not shrink
            write_json(self.run_dir / "manifest.json", {"config": self._results_config, "stages": self.entries})

    def _check_same_configuration(self) -> None:
        path = self.run_dir / "manifest.json"
        self.listed = 0
        if not path.exists():
            return
        manifest = read_manifest(self.run_dir)
        self.listed = len(manifest["stages"])
        changed = differences(manifest["config"], self._results_config)
        if changed:
            raise UserError(
                f"{self.run_dir} was made with another configuration ({'; '.join(changed)}): "
                "nothing was changed; give another run directory, or the old settings."
            )

    @property
    def _results_config(self) -> dict[str, Any]:
        """The configuration without what says nothing about results: other engines' options, for one."""
        found = self.config.model_dump(exclude=OPERATIONAL)
        generation = self.config.generation
        used = {generation.engine} | ({"vllm"} if generation.engine == "ray" else set())
        for engine in {"server", "vllm", "ray"} - used:
            found["generation"].pop(engine, None)
        if self.config.launch and self.config.launch.mode == "process":
            found.pop("launch")
        return found

    @property
    def _threads(self) -> dict[str, Any]:
        return {"threads": self.config.threads}

    def _tokenizer(self, policy: str) -> Any:
        from optune.checkpoints import load_tokenizer

        return load_tokenizer(policy, trust_remote_code=self.config.policy.trust_remote_code)

    def _score(
        self, prompts: Iterable[Prompt], fresh: Iterable[Response], raw: list[float] | None = None
    ) -> Iterator[Response]:
        """Responses with their rewards, a chunk of them at a time; they stand in the prompts' order.

        `raw` gets the rewards as they are without a length penalty.
        """
        score, asked = None, iter(prompts)
        by_id: dict[str, Prompt] = {}
        for chunk in chunks(fresh, ROWS):
            score = score or self._scorer(raw)
            for response in chunk:
                while response.prompt_id not in by_id:
                    if (prompt := next(asked, None)) is None:
                        raise UserError(f"A response to {response.prompt_id!r} stands out of the prompts' order.")
                    by_id[prompt.prompt_id] = prompt
            rewards = score([by_id[r.prompt_id] for r in chunk], chunk)
            yield from (replace(r, reward=float(value)) for r, value in zip(chunk, rewards, strict=True))
            last = chunk[-1].prompt_id  # the only one of these prompts that may have more responses
            by_id = {last: by_id[last]}

    def _scorer(self, raw: list[float] | None = None) -> Callable[[Sequence[Prompt], list[Response]], list[float]]:
        """The run's reward, loaded: rewards of responses, each to the prompt at its place. UserError if not finite.

        A length penalty is taken off here, so that it holds for all that rewards are for; `raw` gets them without it.
        """
        reward, penalty = self.parts["reward"](self.config.reward), self.config.reward.length_penalty

        def score(prompts: Sequence[Prompt], responses: list[Response]) -> list[float]:
            rewards = reward.score(prompts, responses, self.config.seed)
            if raw is not None:
                raw.extend(float(value) for value in rewards)
            rewards = rewards if penalty is None else penalised(rewards, responses, penalty)
            for response, value in zip(responses, rewards, strict=True):
                if not math.isfinite(value):
                    raise UserError(
                        f"Reward {value} for prompt {response.prompt_id!r}, response {response.index}: "
                        "a reward must be a finite number; nothing was trained on it."
                    )
            return rewards

        return score

    def _training_rows(self, t: int, policy: str, prompts: Artefact, pairs: Artefact) -> list[dict[str, Any]]:
        own = pairs / "prompts.parquet"
        asked = load_prompts(own if own.exists() else prompts / "prompts.parquet")
        ids, _ = encode_prompts(self._tokenizer(policy), asked, self.config.prompts.max_tokens)
        prompt_ids = dict(zip((p.prompt_id for p in asked), ids, strict=True))
        columns = ["prompt_id", "chosen_token_ids", "rejected_token_ids", "score_chosen", "score_rejected"]
        sampled = SAMPLED if self.config.training.fresh_reference else []
        rows = pq.read_table(pairs / "pairs.parquet", columns=columns + sampled).to_pylist()
        if self.config.loss.name == "dpo":  # weighs all alike, so that offline pairs need no scores
            rows = [row | {name: row[name] or 0.0 for name in columns[3:]} for row in rows]
        elif any(row["score_chosen"] is None or row["score_rejected"] is None for row in rows):
            raise UserError(
                f"{self.config.pairs.offline}: loss {self.config.loss.name!r} needs score_chosen and score_rejected in "
                "every row; give them, or take loss dpo."
            )
        return [
            {
                "prompt_ids": prompt_ids[row["prompt_id"]],
                "chosen_ids": row["chosen_token_ids"],
                "rejected_ids": row["rejected_token_ids"],
                "score_chosen": row["score_chosen"],
                "score_rejected": row["score_rejected"],
                **(_sampled_logprobs(row, t) if sampled else {}),
            }
            for row in rows
        ]

    def _earlier_prompts(self, now: Artefact) -> list[Artefact]:
        """The prompt sets of earlier iterations, each once, without those equal to this one's."""
        return list({artefact.digest: artefact for artefact in self.asked if artefact.digest != now.digest}.values())

    def _offline_pairs(self, online: dict[str, Prompt]) -> OfflinePairs:
        """The pairs of the file that fit. Raises UserError where one of its prompts has the id of another prompt."""
        config = self.config
        limits = config.prompts.max_tokens, config.generation.max_new_tokens
        found = read_offline_pairs(config.pairs.offline, self._tokenizer(config.policy.model), *limits)
        for prompt_id, prompt in found.prompts.items():
            if online.get(prompt_id, prompt).chat != prompt.chat:
                raise UserError(
                    f"{config.pairs.offline}: prompt_id {prompt_id!r} is another prompt in {config.prompts.path}; "
                    "give one of them another id."
                )
        return found

    def _kl(self, sft: str, measured: list[tuple[Prompt, Response]]) -> float:
        from transformers import AutoModelForCausalLM

        from optune.checkpoints import load_model
        from optune.reference import sequence_logprobs

        config, tokenizer = self.config, self._tokenizer(sft)
        ids, _ = encode_prompts(tokenizer, [prompt for prompt, _ in measured], config.prompts.max_tokens)
        remote = config.policy.trust_remote_code
        model = load_model(AutoModelForCausalLM, sft, dtype=config.generation.dtype, trust_remote_code=remote)
        rows = [(prompt, list(response.token_ids)) for prompt, (_, response) in zip(ids, measured, strict=True)]
        under_sft = sequence_logprobs(model, rows, tokenizer.pad_token_id or 0, 4 * config.training.micro_batch_size)
        return fmean(r.logprob - logprob for (_, r), logprob in zip(measured, under_sft, strict=True))

    def _sample(
        self,
        policy: str,
        asked: Iterable[Prompt],
        count: int,
        settings: SamplingSettings,
        seed: int,
        t: int,
        tell: bool = True,
    ) -> Iterator[Response]:
        """Responses to `count` prompts, sampled for so many prompts at a time that the responses fit into memory."""
        done = 0

        def on_progress(sampled: int, of: int) -> None:
            if tell and self.on_progress:
                self.on_progress(done + sampled, count * settings.n)

        for chunk in chunks(asked, ROWS):
            yield from self.parts["engine"](policy, chunk, settings, seed=seed, iteration=t, on_progress=on_progress)
            done += len(chunk) * settings.n


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """`config` and `stages` of a run. Raises UserError naming the file where it cannot be such a list."""
    manifest = read_object(run_dir / "manifest.json", "config", "stages")
    if not isinstance(manifest["config"], dict) or not isinstance(manifest["stages"], list):
        raise UserError(f"{run_dir / 'manifest.json'}: damaged; restore it, or move it away to have it made again.")
    return manifest


def _parts(config: RunConfig) -> dict[str, Any]:
    """The pluggable parts by their names; a name that stands for nothing fails here, before anything is computed."""
    named = {
        "source": (SOURCES, config.prompts.source, "prompt source"),
        "strategy": (STRATEGIES, config.selection.strategy, "selection strategy"),
        "engine": (ENGINES, config.generation.engine, "engine"),
        "reward": (REWARDS, config.reward.kind, "reward"),
        "pairing": (PAIRINGS, config.pairs.pairing, "pairing"),
        "loss": (LOSSES, config.loss.name, "loss"),
        "learner": (LEARNERS, config.training.learner or DEFAULT, "learner"),
    }
    return {part: resolve(*where) for part, where in named.items()}


def _check_training(config: RunConfig) -> None:
    """What training will not have is told before hours are spent on sampling."""
    if config.launch:
        from optune.launch import check

        check(config.launch, config.training)
    if config.training.optimizer.endswith("_8bit"):
        from optune.trainer import optimizer_of

        optimizer_of(config.training)


def _sampled_logprobs(row: dict[str, Any], t: int) -> dict[str, float | None]:
    """log pi(y|x) of both responses as their sampler told it; None where one is not of iteration t, or it did not."""
    return {
        f"sampled_{side}_logps": row[f"{side}_logprob"] if row[f"{side}_iteration"] == t else None
        for side in ("chosen", "rejected")
    }


def _source_hash(part: Any) -> str | None:
    """What a part from outside the package consists of, so that an edited one is not taken for the old one."""
    module = inspect.getmodule(part)
    if module is None or module.__name__.split(".")[0] == "optune" or not getattr(module, "__file__", None):
        return None
    return sha256_of(Path(module.__file__))


def _together(artefacts: list[Artefact]) -> dict[str, Prompt]:
    """The prompts of several sets by their ids, each as the last of them has it."""
    return {p.prompt_id: p for artefact in artefacts for p in load_prompts(artefact / "prompts.parquet")}


def _beside(folder: Path, prompts: list[Prompt]) -> Path:
    """The prompts that a stage's pairs are of, where they are not the iteration's own: written beside them."""
    path = folder / "prompts.parquet"
    write_prompts(path, prompts)
    return path


def _files(history: History) -> dict[str, str]:
    return {f"history_{t}": content_hash(path) for t, path in enumerate(history.files)}


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """A model's content hash is among the inputs; where it lies changes nothing."""
    return {name: value for name, value in settings.items() if name != "model"}


class _Lengths:
    """Counts the tokens of responses that pass by."""

    def __init__(self) -> None:
        self.responses = self.tokens = self.truncated = 0

    def see(self, response: Response) -> Response:
        self.responses += 1
        self.tokens += len(response.token_ids)
        self.truncated += response.finish_reason == "length"
        return response

    def counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = {"responses": self.responses, "tokens": self.tokens}
        if self.responses:
            counts["response_length_mean"] = self.tokens / self.responses
            counts["truncated_share"] = self.truncated / self.responses
        return counts
