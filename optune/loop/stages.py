"""The steps of the loop as stages: what each reads and writes, and what its key depends on.

`algorithm.py` is Algorithm 1; this file is where its lines meet the files. How responses are sampled and rewarded
stands in `rollouts.py`, what is sampled beside the loop in `side_samples.py`, the rows of the preference step in
`optune/pairs/rows.py`, the pluggable parts in `parts.py`, the list of finished stages in `manifest.py`. TRL and
transformers are imported inside the stage that needs them, so that a run whose stages are all there returns at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from heapq import nsmallest
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from optune.config import OPERATIONAL, RunConfig
from optune.generate import sampling_key
from optune.history import History, iter_responses, read_responses, write_responses
from optune.loop.held_out import HeldOut, link_best
from optune.loop.manifest import Manifest, StageEntry, ToldEntry, contents_of, entry_of, results_config
from optune.loop.parts import callback_key, outcome_of, parts_of, source_hashes
from optune.loop.rollouts import Lengths, OnProgress, Rollouts, left_out
from optune.loop.side_samples import reward_offsets, source_tools
from optune.pairs.offline import OfflinePairs, offline_pairs_beside
from optune.pairs.pairing import pair_gaps, small_gaps, training_rows, without_places, write_pairs
from optune.pairs.rows import PreferenceRows, preference_rows
from optune.prompts.files import load_prompts, stored_prompts, stored_texts, write_prompts
from optune.prompts.sources import sample_of, variation
from optune.prompts.writer import written_with
from optune.reward import reward_key
from optune.reward.functions import Function, PythonReward
from optune.selection.strategies import select_prompts
from optune.store import Artefact, StageStore, content_hash, prune
from optune.training.learners import Step, check_training
from optune.types import Prompt, Response, UserError
from optune.utils.files import read_json, write_json
from optune.utils.hashing import stable_hash, stable_seed

# Raised by one when a stage's code changes what it writes, so that old artefacts are not taken for new ones.
VERSIONS = {"prompts": 1, "select": 1, "generate": 1, "score": 1, "pairs": 1, "train": 2, "kl": 2}
ON_REQUEST = {"validate": 1, "outcome": 1}  # stages that only some configurations have

OnStage = Callable[[ToldEntry], None]
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
        manifest: Manifest | None = None,
        check: Callable[[RunConfig, Any, Any], object] | None = None,
        functions: Mapping[Function, float] | PythonReward | None = None,
        callbacks: Sequence[Any] = (),
        outcome: Function | PythonReward | None = None,
    ):
        self.config = config
        self.run_dir = run_dir
        self.outcome = outcome_of(config, outcome)
        self.store = StageStore(store)
        self.on_stage = on_stage or (lambda entry: None)
        self.on_log = on_log
        self.check = check  # called once, before the first stage that is not there yet
        self.callbacks = tuple(callbacks)  # transformers', of the training
        self.callbacks_key = {"callbacks": [callback_key(c) for c in callbacks]} if callbacks else {}  # as they start
        self.asked: list[Artefact] = []  # each iteration's prompts
        self.parts = parts_of(config, functions)
        self.rollouts = Rollouts(config, self.parts, on_progress, store / "replies")
        check_training(config)
        self.manifest = manifest or Manifest(results_config(config), run_dir, contents_of(config))

    @property
    def entries(self) -> list[StageEntry]:
        """The finished stages, as the manifest lists them."""
        return self.manifest.entries

    def prompts(self, t: int, policy: str, history: History) -> Artefact:
        """P_t, this iteration's prompts. Those longer than the limit are left out and counted, never cut."""
        settings = self.config.prompts

        def build(folder: Path) -> dict[str, Any]:
            tools = source_tools(self.rollouts, self.store, policy, t, folder)
            where = {"iteration": t, "iterations": self.config.iterations + 1}
            offered = self.parts["source"](
                settings, **where, policy=policy, history=history, seed=self.config.seed, tools=tools
            )
            kept, too_long = self.rollouts.fitting(policy, offered, settings.max_tokens)
            if not kept:
                raise UserError(f"{settings.path}: every prompt is longer than {settings.max_tokens} tokens.")
            write_prompts(folder / "prompts.parquet", kept)
            return {**tools.counts, "offered": len(offered), "used": len(kept), "too_long": too_long}

        inputs = {"file": content_hash(settings.path), "policy": content_hash(policy), **_files(history)}
        fields = {"prompts": settings.model_dump(exclude=OPERATIONAL["prompts"]), "seed": self.config.seed}
        if settings.synthetic:  # what the answers to the reference set and the writing of prompts depend on
            fields |= {
                "answers": self.rollouts.key_fields(self.config.sampling()),
                "written_with": written_with(settings.synthetic),
            }
            inputs |= {"start": content_hash(self.config.policy.model), **self._reward_inputs}
            inputs |= {f"held_out_{i}": content_hash(path) for i, path in enumerate(settings.synthetic.held_out)}
        if variation(self.parts["source"]) == "with_iteration":
            fields |= {"iteration": t, "iterations": self.config.iterations + 1}
        self.asked.append(self._run(t, "prompts", build, fields, inputs))
        return self.asked[-1]

    def select(self, t: int, prompts: Artefact, history: History) -> Artefact:
        """Lines 4-7 and 10. Iteration 0 regenerates every prompt, whatever the strategy, so that arms share it."""
        settings = self.config.selection
        strategy, ratio = ("all", 1.0) if t == 0 else (settings.strategy, settings.ratio)
        offsets = reward_offsets(self.rollouts, self.store, prompts) if t > 0 and settings.offset_samples else None

        def build(folder: Path) -> dict[str, Any]:
            ids, texts = (column.to_pylist() for column in stored_texts(prompts / "prompts.parquet"))
            means = read_json(offsets / "offsets.json") if offsets else None
            view = history.view(ids, t, self.config.seed, texts, means and _offsets_of(ids, means))
            selected = select_prompts(view, ratio, strategy)
            write_json(folder / "selected.json", selected)
            fresh = len(set(selected))
            turns = {"turns": len(selected)} if len(selected) > fresh else {}  # n responses each
            return {"prompts": len(ids), "selected": fresh, "reused": len(ids) - fresh, **turns}

        fields = {"strategy": strategy, "ratio": ratio, "seed": self.config.seed, "iteration": t}
        inputs = {"prompts": prompts.digest, **_files(history)}
        return self._run(t, "select", build, fields, inputs | ({"offsets": offsets.digest} if offsets else {}))

    def generate(self, t: int, policy: str, prompts: Artefact, selected: Artefact) -> Artefact:
        """Line 8: fresh responses, in the prompts' order. The key depends on which are selected, not on ranks.

        A prompt that is selected m times gets m * n responses.
        """
        settings = self.config.sampling()
        wanted = Counter(read_json(selected / "selected.json"))

        def build(folder: Path) -> dict[str, Any]:
            asked = (p for p in stored_prompts(prompts / "prompts.parquet") if p.prompt_id in wanted)
            lengths, refused = Lengths(), Counter()
            sampled = self.rollouts.sample(
                policy, asked, wanted.total(), settings, self.config.seed, t, refused, times=wanted
            )
            write_responses(folder / "responses.parquet", map(lengths.see, sampled))
            return {"prompts": len(wanted), **lengths.counts(), **left_out(refused)}

        inputs = {
            "policy": content_hash(policy),
            "prompts": prompts.digest,
            "selected": stable_hash(sorted(wanted.elements())),
        }
        fields = {"generation": sampling_key(settings), "seed": self.config.seed, "iteration": t, **self._threads}
        return self._run(t, "generate", build, fields, inputs)

    def score(self, t: int, prompts: Artefact, responses: Artefact) -> Artefact:
        """Line 19: rewards the fresh responses and writes the iteration's part of the history.

        With a length penalty the history holds the penalised rewards, and `raw_rewards.json` the reward model's own, in
        the same order.
        """
        settings = self.config.reward

        def build(folder: Path) -> dict[str, Any]:
            rewards: list[float] = []
            raw: list[float] = []

            def scored() -> Iterator[Response]:
                asked = stored_prompts(prompts / "prompts.parquet")
                for response in self.rollouts.score(asked, iter_responses(responses / "responses.parquet"), raw):
                    rewards.append(response.reward)
                    yield response

            write_responses(folder / "history.parquet", scored())
            counts = {"rewards": len(rewards), "reward_mean": fmean(rewards) if rewards else None}
            if settings.length_penalty is None:
                return counts
            write_json(folder / "raw_rewards.json", raw)
            return {**counts, "raw_reward_mean": fmean(raw) if raw else None}

        inputs = {"prompts": prompts.digest, "responses": responses.digest, **self._reward_inputs}
        fields = {"reward": reward_key(self.config.reward), "seed": self.config.seed, **self._threads}
        return self._run(t, "score", build, fields, inputs)

    def pairs(self, t: int, prompts: Artefact, history: History) -> Artefact:
        """Lines 12-18 and 20: pairs of fresh and reused responses. Groups that make no pair are counted by reason.

        Pairs of `pairs.offline` are older than iteration 0. The views `latest` and `all` use them in every iteration,
        `fresh` in iteration 0 alone. Where pairs may be of other prompts than this iteration's, the stage writes the
        prompts of all its pairs to a `prompts.parquet` of its own.
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
            dropped = ()
            if settings.keep is not None:  # the rows are read twice: which pairs weigh least shows only at the end
                dropped = small_gaps(rows, settings.keep, t, settings.pairing, words_only)
                rows = without_places(training_rows(history, settings.view, t, ids), dropped)
            written = write_pairs(folder / "pairs.parquet", rows, settings.pairing, texts, words_only, more)
            if len(dropped):
                written.left_out["reused_of_small_weight"] = len(dropped)
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
            asked, rows = load_prompts(prompts / "prompts.parquet"), partial(self._rows, t, policy, prompts, pairs)
            step = Step(
                config,
                t,
                policy,
                reference,
                asked,
                rows,
                self.rollouts.scorer,
                beta_2,
                seed,
                self.on_log,
                self.callbacks,
            )
            return self.parts["learner"](step, folder)

        # The key leaves out what the loss does not read, so arms that differ only there share the training.
        loss = {"name": config.loss.name, "beta_1": config.loss.beta_1}
        loss |= {"beta_2": beta_2} if config.loss.name != "dpo" else {}
        fields = {
            "loss": loss,
            "training": config.training.model_dump(),
            "seed": seed,
            **self._threads,
            **self.callbacks_key,
        }
        if config.launch:
            from optune.training.launch import launch_key

            fields |= launch_key(config.launch)
        inputs = {"prompts": prompts.digest, "pairs": pairs.digest}
        inputs |= {"policy": content_hash(policy), "reference": content_hash(reference)}
        if config.training.learner:  # it may sample and reward on its own
            fields |= {"sampling": self.rollouts.key_fields(config.sampling())}
            inputs |= self._reward_inputs
        before = [entry["path"] for entry in self.entries if entry["stage"] == "train"]
        trained = self._run(t, "train", build, fields, inputs)
        if config.keep == "last" and before:
            prune(Path(before[-1]))
        return trained

    def kl(self, t: int, sft: str, policy: str, prompts: Artefact) -> Artefact:
        """KL(pi || pi_SFT) in nats per response of the policy just trained: reward hacking shows here first.

        Estimated on one fresh response to each of the same prompts (`kl_prompts` of them, 256 by default) in
        every iteration and arm, so that numbers compare; where a source gives another set in each iteration, they are
        of its first one. With `kl_prompts` the standard error stands beside it.
        Log-probabilities are untruncated ones at temperature 1, while the responses are drawn as configured: with
        top_p < 1 it is an estimate on the nucleus.
        """
        settings = self.config.sampling().model_copy(update={"n": 1})
        prompts = (self.asked or [prompts])[0]
        wanted = self.config.kl_at_most

        def build(folder: Path) -> dict[str, Any]:
            asked = stored_prompts(prompts / "prompts.parquet")
            asked = nsmallest(wanted, asked, key=lambda p: stable_hash("kl", p.prompt_id))
            by_id, seed, refused = {p.prompt_id: p for p in asked}, stable_seed("kl", self.config.seed), Counter()
            sampled = self.rollouts.sample(policy, asked, len(asked), settings, seed, t, refused)
            measured = [(by_id[r.prompt_id], r) for r in sampled if r.logprob is not None]
            ratios = self._log_ratios(sft, measured) if measured else []
            counts = {"responses": len(measured), "kl_to_sft": fmean(ratios) if ratios else None, **left_out(refused)}
            if self.config.kl_prompts is not None and len(ratios) > 1:
                counts["kl_standard_error"] = stdev(ratios) / len(ratios) ** 0.5
            return counts

        inputs = {"sft": content_hash(sft), "policy": content_hash(policy), "prompts": prompts.digest}
        fields = {"prompts": wanted, "generation": sampling_key(settings), "seed": self.config.seed, "iteration": t}
        return self._run(t, "kl", build, {**fields, **self._threads}, inputs)

    def validate(self, t: int, policy: str) -> Artefact:
        """The mean reward on the validation prompts. The run's best policy has the highest."""
        settings, asking = self.config.validation, self.config.validating()

        def build(folder: Path) -> dict[str, Any]:
            offered = sample_of(load_prompts(settings.path, settings.split), settings.limit, 0)
            asked, too_long = self.rollouts.fitting(policy, offered, asking.max_prompt_tokens)
            if not asked:
                raise UserError(f"{settings.path}: every prompt is longer than {asking.max_prompt_tokens} tokens.")
            seed, lengths, refused = stable_seed("validate", self.config.seed), Lengths(), Counter()
            sampled = self.rollouts.sample(policy, asked, len(asked), asking, seed, t, refused, tell=False)
            answers = map(lengths.see, sampled)
            raw: list[float] = []
            scored = list(self.rollouts.score(asked, answers, raw))
            write_responses(folder / "answers.parquet", scored)
            counts = {"offered": len(offered), "too_long": too_long, **left_out(refused), **lengths.counts()}
            counts["reward_mean"] = fmean(r.reward for r in scored)
            counts["tokens_validation"] = counts.pop("tokens")
            return {**counts, **({} if self.config.reward.length_penalty is None else {"raw_reward_mean": fmean(raw)})}

        fields = {**self.rollouts.key_fields(asking), "limit": settings.limit, "seed": self.config.seed, "iteration": t}
        inputs = {
            "file": content_hash(settings.path),
            "policy": content_hash(policy),
            **self._reward_inputs,
        }
        answers = self._run(t, "validate", build, fields, inputs)
        if self.outcome:
            self._measure_outcome(t, answers)
        return answers

    def _measure_outcome(self, t: int, answers: Artefact) -> None:
        """The outcome of every validation answer, and its mean. A stage of its own: another outcome samples nothing."""

        def build(folder: Path) -> dict[str, Any]:
            settings, rows = self.config.validation, read_responses(answers / "answers.parquet")
            asked = {prompt.prompt_id: prompt for prompt in load_prompts(settings.path, settings.split)}
            prompts = [asked[row.prompt_id] for row in rows]
            values = self.outcome.ready({}).score(prompts, rows, self.config.seed)
            columns = {"prompt_id": [r.prompt_id for r in rows], "index": [r.index for r in rows], "outcome": values}
            pq.write_table(pa.table(columns), folder / "outcomes.parquet")
            return {"answers": len(values), "outcome_mean": fmean(values)}

        inputs = {"answers": answers.digest, **self.outcome.inputs()}
        self._run(t, "outcome", build, {"outcome": self.config.validation.outcome}, inputs)

    def done(self) -> bool:
        """Whether `validation.patience` ends the run after the iterations that are finished."""
        held_out = HeldOut.of(self.entries, self.config.validation)
        return held_out is not None and held_out.stops

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
        return self.config.loss.automatic_beta_2(median(gaps))

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _run(
        self,
        t: int,
        stage: str,
        build: Callable[[Path], dict[str, Any]],
        fields: dict[str, Any],
        inputs: dict[str, str],
    ) -> Artefact:
        def checked_build(folder: Path) -> dict[str, Any]:
            check, self.check = self.check, None
            if check:
                check(self.config, self.parts["reward"], self.outcome)
            return build(folder)

        inputs = {**inputs, **source_hashes(stage, self.parts)}
        version = (VERSIONS | ON_REQUEST)[stage]
        artefact = self.store.run(stage, checked_build, fields=fields, inputs=inputs, version=version)
        entry = entry_of(t, stage, artefact)
        told = self._held_out(entry) if stage == ("outcome" if self.outcome else "validate") else []
        self.manifest.add(entry)
        self.on_stage({**entry, "reused": artefact.reused, **({"told": told} if told else {})})
        return artefact

    def _held_out(self, entry: StageEntry) -> list[str]:
        """What an iteration's last held-out measure tells; links the best policy so far and lists both."""
        held_out = HeldOut.of([*self.entries, entry], self.config.validation)
        told = held_out.sentences(self.config.iterations)
        before = self.manifest.held_out.get("told", [])
        self.manifest.held_out = {"best": held_out.as_json(), **({"told": [*before, *told]} if before or told else {})}
        link_best(self.run_dir, held_out.policy)
        return told

    @property
    def _reward_inputs(self) -> dict[str, str]:
        return self.rollouts.reward_inputs()

    @property
    def _threads(self) -> dict[str, Any]:
        return {"threads": self.config.threads}

    def _log_ratios(self, sft: str, measured: list[tuple[Prompt, Response]]) -> list[float]:
        from optune.training.reference import log_ratios

        return log_ratios(self.config, sft, self.rollouts.tokenizer(sft), measured)

    def _rows(self, t: int, policy: str, prompts: Artefact, pairs: Artefact) -> PreferenceRows:
        own = pairs / "prompts.parquet"
        asked = own if own.exists() else prompts / "prompts.parquet"
        return preference_rows(self.config, self.rollouts.tokenizer(policy), asked, pairs / "pairs.parquet", t)

    def _offline_pairs(self, online: dict[str, Prompt]) -> OfflinePairs:
        return offline_pairs_beside(online, self.config, self.rollouts.tokenizer(self.config.policy.model))

    def _earlier_prompts(self, now: Artefact) -> list[Artefact]:
        """The prompt sets of earlier iterations, each once, without those equal to this one's."""
        by_digest = {artefact.digest: artefact for artefact in self.asked}
        by_digest.pop(now.digest, None)
        return list(by_digest.values())


def _together(artefacts: list[Artefact]) -> dict[str, Prompt]:
    """The prompts of several sets by their ids; a later set's prompt replaces an earlier one's."""
    by_id = {}
    for artefact in artefacts:
        by_id |= {prompt.prompt_id: prompt for prompt in load_prompts(artefact / "prompts.parquet")}
    return by_id


def _beside(folder: Path, prompts: list[Prompt]) -> Path:
    """Write the prompts of a stage's pairs into its folder, where they are not the iteration's own."""
    path = folder / "prompts.parquet"
    write_prompts(path, prompts)
    return path


def _offsets_of(ids: list[str], means: dict[str, float]) -> list[float]:
    """Each prompt's mean reward; that of all for one to which there were no responses."""
    of_all = fmean(means.values())
    return [means.get(i, of_all) for i in ids]


def _files(history: History) -> dict[str, str]:
    return {f"history_{t}": content_hash(path) for t, path in enumerate(history.files)}
