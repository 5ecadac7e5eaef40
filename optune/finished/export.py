"""The final policy as a folder of its own: `<run>/policy`, with a model card that says how it was made.

Final is the last one, or with validation the best.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optune.config import RunConfig
from optune.loop.held_out import outcome_name, told_of
from optune.store import STAGE_FILE
from optune.utils.files import in_one_rename, write_text

CARD = "README.md"


def export_policy(policy: str | Path, stages: Sequence[dict[str, Any]], config: RunConfig, run_dir: Path) -> Path:
    """`run_dir/policy`: the files of `policy` and a model card."""
    return export_model(Path(policy), run_dir / "policy", model_card(stages, config))


def export_model(source: Path, target: Path, card: str) -> Path:
    """`target`: the files of `source` (linked, not copied, where the file system can) and a card.

    A folder that holds this model already is left as it is, a card that was edited included.
    """
    files = [p.relative_to(source) for p in source.rglob("*") if p.is_file() and p.name != STAGE_FILE]
    weights = [name for name in files if name.suffix == ".safetensors"]
    if (target / CARD).exists() and all(_same(source / name, target / name) for name in weights):
        return target
    with in_one_rename(target) as unfinished:
        for name in files:
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            _link(source / name, unfinished / name)
        write_text(unfinished / CARD, card)
    return target


def model_card(stages: Sequence[dict[str, Any]], config: RunConfig) -> str:
    """A card in the hub's form: what was trained from what, with which settings, and what each iteration measured."""
    from huggingface_hub import ModelCardData

    base = config.policy.model
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["optune", "dpo", "online-dpo", "trl"],
        base_model=base if on_hub(base) else None,
        datasets=[config.prompts.path] if on_hub(config.prompts.path) else None,
    )
    loss, training, selection = config.loss, config.training, config.selection
    rows = [
        ("policy at the start", public_name(base)),
        ("reward", public_name(config.reward.model) if config.reward.model else config.reward.kind),
        ("prompts", public_name(config.prompts.path)),
        ("iterations", f"{config.iterations} after iteration 0"),
        ("selection", f"{selection.strategy}, ratio {selection.ratio:g}"),
        ("loss", f"{loss.name}, beta_1 {loss.beta_1:g}, beta_2 {loss.beta_2}"),
        ("optimizer", f"{training.optimizer}, learning rate {training.learning_rate:g}, {training.schedule}"),
        ("batch", f"{training.batch_size} pairs"),
        ("sampling", f"{config.generation.n} responses, top_p {config.generation.top_p:g}, {config.generation.engine}"),
        ("seed", str(config.seed)),
    ]
    if config.recipe:
        rows.insert(0, ("recipe", Path(config.recipe).stem))
    if config.generation.temperatures:
        rows.append(("temperatures", ", ".join(f"{value:g}" for value in config.generation.temperatures)))
    if config.reward.length_penalty is not None:
        rows.append(("length penalty", f"{config.reward.length_penalty:g} for each character"))
    if config.validation:
        asked = public_name(config.validation.path)
        measure = "outcome" if config.validation.outcome else "reward"
        rows.append(("this policy", f"the iteration with the highest {measure} on the validation prompts, {asked}"))
    if config.validation and config.validation.outcome:
        rows.append(("outcome", f"{outcome_name(config.validation.outcome)}, which nothing was trained on"))
    if training.lora:
        rows.append(("LoRA", f"r {training.lora.r}, alpha {training.lora.alpha:g}; merged, adapter in `adapter`"))
    parts = [
        f"---\n{data.to_yaml()}\n---",
        "# A policy tuned with OPTune",
        "Online (iterative) DPO with selective regeneration: in each iteration the chosen prompts get fresh responses, "
        "a reward model ranks them, and the policy trains on fresh and reused pairs.",
        markdown_table(("setting", "value"), rows),
        "## What each iteration measured",
        markdown_table(*_measured(stages)),
        *told_of(stages, config.validation, config.iterations),
        "Reward is the mean over the iteration's fresh responses, under the reward model that the policy was tuned on: "
        "it is no measure of quality. No evaluation is part of this card.",
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")\n'
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n```',
    ]
    return "\n\n".join(parts) + "\n"


MEASURES = (
    ("prompts regenerated", "select", "selected"),
    ("reward", "score", "reward_mean"),
    ("pairs", "pairs", "pairs"),
    ("median reward gap", "pairs", "reward_gap_median"),
    ("loss", "train", "loss"),
    ("KL to the start", "kl", "kl_to_sft"),
    ("its standard error", "kl", "kl_standard_error"),
    ("validation reward", "validate", "reward_mean"),
    ("validation outcome", "outcome", "outcome_mean"),
)


def _measured(stages: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Titles of what this run's stages measured, and a row per iteration."""
    counts_of = {(entry["iteration"], entry["stage"]): entry["counts"] for entry in stages}
    counted = set()
    for (_, stage), counts in counts_of.items():
        counted |= {(stage, name) for name in counts}
    measures = [measure for measure in MEASURES if (measure[1], measure[2]) in counted]
    rows = []
    for t in sorted({iteration for iteration, _ in counts_of}):
        values = (counts_of.get((t, stage), {}).get(name) for _, stage, name in measures)
        rows.append((str(t), *("" if value is None else f"{value:.4g}" for value in values)))
    return ("iteration", *(title for title, _, _ in measures)), rows


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; a bar inside a cell becomes a slash."""
    cells = [titles, ["---"] * len(titles), *rows]
    lines = []
    for row in cells:
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |")
    return "\n".join(lines)


def on_hub(name: str) -> bool:
    """Whether a name can only be one on the hub."""
    return not Path(name).exists() and name.count("/") == 1


def public_name(name: str) -> str:
    """A hub name, or a local file's or folder's own name: a card says nothing of the machine it was made on."""
    return name if on_hub(name) else Path(name).name


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _same(a: Path, b: Path) -> bool:
    """One file, or a copy of it as `_link` makes it."""
    if not b.exists():
        return False
    one, other = a.stat(), b.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
