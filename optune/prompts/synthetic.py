"""Sources whose prompts a writer makes, shown how a policy does on a reference set: Always-On-Policy prompts.

Source: "Always-On-Policy Prompts for Efficient RLHF", Sections 3 and 4. In every iteration `draws` samples of the
reference set (`prompts.path`, with categories), a few questions of each category, go to a prompt writer, which writes
`prompts_per_draw` prompts for each.

    vanilla_synthetic   shows the questions alone
    starts_on_policy    shows the start policy's answers and their rewards, in every iteration
    always_on_policy    shows those of the policy at the iteration's start

All give the same number of prompts. The first iteration of the last two is the same, to the byte.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from optune.chat.client import ChatClient, ChatRequest
from optune.chat.reply_log import Reply
from optune.config import PromptsConfig, SyntheticConfig
from optune.history import History, write_responses
from optune.prompts.files import load_prompts
from optune.prompts.near_duplicates import near_duplicates
from optune.prompts.sources import SourceTools, fixed, varying
from optune.prompts.writer import Shown, make_writer, read_prompts, request_for
from optune.types import Prompt, Response, UserError
from optune.utils.files import exclusive, write_text
from optune.utils.hashing import stable_hash, stable_seed

ROUNDS = 4  # of `draws` calls each, while too few prompts are left


@varying("with_policy")
def vanilla_synthetic(
    settings: PromptsConfig, *, iteration: int, history: History, seed: int, tools: SourceTools, **_: Any
) -> list[Prompt]:
    """The baseline: prompts like those of the reference set, whatever the policy's weaknesses are."""
    shown = [Shown(p.category, p.text) for p in _reference(settings)]
    return _write(settings, shown, iteration, history, seed, tools)


@varying("with_policy")
def starts_on_policy(
    settings: PromptsConfig, *, iteration: int, history: History, seed: int, tools: SourceTools, **_: Any
) -> list[Prompt]:
    """Prompts on what the start policy answers badly; its answers are sampled once, in the first iteration."""
    shown = _answered(settings, tools, start=True, spent=iteration == 0)
    return _write(settings, shown, iteration, history, seed, tools)


@varying("with_policy")
def always_on_policy(
    settings: PromptsConfig, *, iteration: int, history: History, seed: int, tools: SourceTools, **_: Any
) -> list[Prompt]:
    """Prompts on what the policy answers badly at the iteration's start."""
    shown = _answered(settings, tools, start=False, spent=True)
    return _write(settings, shown, iteration, history, seed, tools)


def normalised(text: str) -> str:
    """The text without case, punctuation, spacing and Unicode form: equal for prompts that differ in these alone."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", plain)) or plain.strip()


# --- the reference set ------------------------------------------------------------------------------------------------


def _options(settings: PromptsConfig) -> SyntheticConfig:
    if settings.synthetic is None:
        raise UserError(f"prompts.source {settings.source!r} needs the section prompts.synthetic.")
    return settings.synthetic


def _reference(settings: PromptsConfig) -> list[Prompt]:
    """The reference set. Raises UserError where a prompt has no category."""
    _options(settings)
    reference = fixed(settings)
    without = [p.prompt_id for p in reference if not p.category]
    if without:
        raise UserError(
            f"{settings.path}: prompt {without[0]!r} has no category; a reference set needs a column `category`."
        )
    return reference


def _answered(settings: PromptsConfig, tools: SourceTools, start: bool, spent: bool) -> list[Shown]:
    """The reference set with one answer and reward each; its tokens are counted if they were `spent` now."""
    reference = _reference(settings)
    answers: list[Response] = tools.answer(reference, 1, start=start)
    write_responses(tools.folder / "answers.parquet", answers)
    tools.counts["tokens_reference"] = sum(len(a.token_ids) for a in answers) if spent else 0
    tools.counts["reference"] = {
        "answers": len(answers),
        "too_long": len(reference) - len(answers),
        "reward_mean": float(np.mean([a.reward for a in answers])),
    }
    if not spent:
        tools.counts["seconds"]["answers_s"] = 0.0
    by_id = {p.prompt_id: p for p in reference}
    return [Shown(by_id[a.prompt_id].category, by_id[a.prompt_id].text, a.text, a.reward) for a in answers]


def draw(shown: Sequence[Shown], per_category: int, seed: int) -> list[Shown]:
    """At most `per_category` records of each category, at random without replacement, in the set's order."""
    rng = np.random.default_rng(seed)
    places: dict[str, list[int]] = {}
    for place, record in enumerate(shown):
        places.setdefault(record.category, []).append(place)
    chosen = [rng.choice(of, size=min(per_category, len(of)), replace=False) for _, of in sorted(places.items())]
    return [shown[place] for place in sorted(np.concatenate(chosen))]


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A prompt as the writer gave it, and in which draw."""

    draw: int
    category: str
    text: str

    @property
    def prompt_id(self) -> str:
        """As `load_prompts` gives it to a text without an id."""
        return stable_hash(self.text, ())[:16]


def _write(
    settings: PromptsConfig, shown: Sequence[Shown], iteration: int, history: History, seed: int, tools: SourceTools
) -> list[Prompt]:
    """`per_iteration` prompts. `written.jsonl` lists every written prompt with its fate; counts are by reason.

    Raises UserError if the writer gives too few prompts in ROUNDS times `draws` calls.
    """
    options, started = _options(settings), perf_counter()
    forbidden = _forbidden(options, shown, history)
    candidates: list[_Candidate] = []
    rejected: Counter[str] = Counter()
    fates: list[str] = []
    for number in range(ROUNDS):
        draws = range(number * options.draws, (number + 1) * options.draws)
        written, wrong = _ask(options, shown, [(d, stable_seed("draw", seed, iteration, d)) for d in draws], tools)
        candidates += written
        rejected += wrong
        fates = _fates(candidates, options, forbidden, stable_seed("kept", seed, iteration))
        if fates.count("used") == options.per_iteration:
            break
    else:
        raise UserError(
            f"The writer's {len(candidates)} prompts leave {fates.count('used')} of the {options.per_iteration} wanted "
            f"({dict(Counter(fates) + rejected)}): raise prompts.synthetic.draws or prompts_per_draw."
        )
    kept = zip(candidates, fates, strict=True)
    _record(tools, candidates, fates, rejected)
    tools.counts.setdefault("seconds", {})["writing_s"] = perf_counter() - started
    return [Prompt(c.prompt_id, c.text, (), c.category) for c, fate in kept if fate == "used"]


def _ask(
    options: SyntheticConfig, shown: Sequence[Shown], draws: Sequence[tuple[int, int]], tools: SourceTools
) -> tuple[list[_Candidate], Counter[str]]:
    """The prompts of these draws in order, and the lines that hold none. Calls with a logged reply are not repeated."""
    writer = make_writer(options.writer)
    samples = {number: draw(shown, options.questions_per_category, seed) for number, seed in draws}
    requests = {
        number: request_for(sample, options.prompts_per_draw, options.style, writer, number)
        for number, sample in samples.items()
    }
    client = ChatClient(writer.chat, tools.replies, transport=writer.transport)
    with exclusive(tools.replies.with_suffix(".lock")):  # runs that share a store may want the writer at once
        failed = [key for key, reply in client.logged(requests.values()).items() if not reply.answered]
        replies = client.ask(requests.values(), failed)  # every draw is needed, so failed calls are made again
    candidates: list[_Candidate] = []
    rejected: Counter[str] = Counter()
    for number, request in requests.items():
        reply = replies[request.key(writer.chat.model)]
        if not reply.answered:
            raise UserError(f"The prompt writer did not answer draw {number} ({reply.error}); run again to ask again.")
        categories = {record.category for record in samples[number]}
        prompts, wrong = read_prompts(reply.text, categories, options.prompts_per_draw, options.max_characters)
        candidates += [_Candidate(number, category, text) for category, text in prompts]
        rejected += wrong
        _count_tokens(tools.counts, request, reply)
    return candidates, rejected


def _count_tokens(counts: dict[str, Any], request: ChatRequest, reply: Reply) -> None:
    """Tokens as the endpoint counts them; an estimate (bytes / 4) where it does not."""
    given = reply.prompt_tokens, reply.completion_tokens
    estimate = request.prompt_tokens, len(reply.text.encode("utf-8", "replace")) // 4
    for name, count, guess in zip(("tokens_writer_in", "tokens_writer_out"), given, estimate, strict=True):
        counts[name] = counts.get(name, 0) + (guess if count is None else count)


def _forbidden(options: SyntheticConfig, shown: Sequence[Shown], history: History) -> dict[str, Collection[str]]:
    """By reason, what a prompt must not repeat: normalised texts, and the ids of prompts sampled before."""
    return {
        "in_evaluation_set": set().union(*map(held_out_texts, options.held_out)),
        "in_reference_set": {normalised(record.question) for record in shown},
        "used_before": set(history.numbers["prompt_id"]),
    }


def held_out_texts(name: str) -> set[str]:
    """Normalised texts of a prompt file or hub data set; its split is `train`, or given as `name#split`."""
    path, _, split = name.partition("#")
    return {normalised(prompt.text) for prompt in load_prompts(path, split or "train")}


def _fates(
    candidates: Sequence[_Candidate], options: SyntheticConfig, forbidden: Mapping[str, Collection[str]], seed: int
) -> list[str]:
    """What becomes of each candidate: the reason to leave it out, or `used`, or `surplus`."""
    fates: list[str] = []
    seen: set[str] = set()
    for candidate in candidates:
        text = normalised(candidate.text)
        reasons = [name for name, texts in forbidden.items() if text in texts or candidate.prompt_id in texts]
        fates.append(reasons[0] if reasons else "repeated" if text in seen else "")
        seen.add(text)
    left = [i for i, fate in enumerate(fates) if not fate]
    for place in near_duplicates([candidates[i].text for i in left], options):
        fates[left[place]] = "near_duplicate"
    left = [i for i in left if not fates[i]]
    used = set(np.random.default_rng(seed).permutation(left)[: options.per_iteration].tolist())  # from all draws alike
    return [fate or ("used" if i in used else "surplus") for i, fate in enumerate(fates)]


def _record(tools: SourceTools, candidates: Sequence[_Candidate], fates: Sequence[str], rejected: Counter[str]) -> None:
    """Records what the writer gave. Lines given = lines offered to the policy + lines left out, by reason."""
    rows = [
        {"draw": c.draw, "category": c.category, "prompt": c.text, "fate": fate}
        for c, fate in zip(candidates, fates, strict=True)
    ]
    write_text(tools.folder / "written.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    left_out = Counter(fate for fate in fates if fate != "used") + rejected
    tools.counts["written"] = len(candidates) + sum(rejected.values())
    tools.counts["left_out"] = dict(sorted(left_out.items()))
    categories = Counter(c.category for c, fate in zip(candidates, fates, strict=True) if fate == "used")
    tools.counts["categories"] = dict(sorted(categories.items()))
