"""How a trained start model is told: the lines of the command, and a model card in the hub's form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from optune.finished.export import markdown_table, on_hub, public_name
from optune.pipeline.settings import StartModelConfig

TITLES = {
    "sft": "A policy fine-tuned on demonstrations with OPTune",
    "reward": "A Bradley-Terry reward model trained with OPTune",
    "preference": "A policy tuned on preferences with OPTune (offline DPO)",
}
HOW = {
    "sft": "Supervised fine-tuning: the next-token loss on the answers alone.",
    "reward": "One logit r(x, y) over prompt and answer, trained by the loss -log sigma(r(x, y_w) - r(x, y_l)).",
    "preference": "Offline DPO: implicit rewards against the start model, on preferences that were there.",
}
LOADED_AS = {"reward": "AutoModelForSequenceClassification"}
SHARES = {
    "agreement": "agreement with the preferences",
    "agreement_of_length_alone": "agreement of length alone (the longer answer)",
    "where_chosen_is_longer": "agreement where the preferred answer is longer",
    "where_chosen_is_not_longer": "agreement where it is not",
}
NUMBERS = {
    "margin_mean": "mean reward margin",
    "loss": "loss per token",
    "perplexity": "perplexity",
    "start_loss": "loss per token of the start model",
    "start_perplexity": "perplexity of the start model",
    "rank_correlation_with_score_gap": "rank correlation of margins and score gaps",
}


def measured(counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What held-out rows told, as (name, value): shares with their 95% intervals first."""
    for name, title in SHARES.items():
        if counts.get(name):
            yield title, share_text(counts[name])
    if gap := counts.get("agreement_minus_length_alone"):
        yield "agreement minus that of length alone", difference_text(gap)
    for name, title in NUMBERS.items():
        if counts.get(name) is not None:
            yield title, f"{counts[name]:.4g}"
    if calibration := counts.get("calibration"):
        yield "loss (Eq. 1) and calibration error", f"{calibration['loss']:.4f}, {calibration['error']:.3f}"
    for category, found in (counts.get("by_category") or {}).items():
        value = share_text(found) if "share" in found else f"loss {found['loss']:.4g}, {found['rows']} rows"
        yield f"category {category}", value


def share_text(found: dict[str, Any]) -> str:
    """A share in percent, its 95% interval, and of how many rows."""
    interval = f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
    return f"{100 * found['share']:.1f}% {interval} of {found['rows']} rows"


def difference_text(found: dict[str, float]) -> str:
    """A difference of shares in points, with its 95% interval."""
    return f"{100 * found['mean']:+.1f} points [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


def model_card(command: str, config: StartModelConfig, stages: Sequence[dict[str, Any]]) -> str:
    """What was trained from what, on which rows, with which settings, and what held-out rows told."""
    from huggingface_hub import ModelCardData

    counts = {entry["stage"]: entry["counts"] for entry in stages}
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification" if command == "reward" else "text-generation",
        tags=["optune", "trl", {"reward": "reward-model", "preference": "dpo"}.get(command, command)],
        base_model=config.model if on_hub(config.model) else None,
        datasets=[config.data.path] if on_hub(config.data.path) else None,
    )
    loader = LOADED_AS.get(command, "AutoModelForCausalLM")
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {TITLES[command]}",
        HOW[command],
        markdown_table(("setting", "value"), list(_settings(config, counts))),
        "## On held-out rows",
        markdown_table(("measure", "value"), list(measured(counts["evaluate"]))),
        "Their prompts were never trained on; intervals are 95%. They come from the same data as the rows that trained "
        "the model, and say nothing of other data.",
        f"```python\nfrom transformers import {loader}, AutoTokenizer\n\n"
        f'model = {loader}.from_pretrained("path/to/this/folder")\n'
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n```',
    ]
    return "\n\n".join(parts) + "\n"


def _settings(config: StartModelConfig, counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    training, rows = config.training, counts["rows"]
    yield "start model", public_name(config.model)
    yield "data", public_name(config.data.path)
    left = ", ".join(f"{number} {reason}" for reason, number in rows["left_out"].items()) or "none"
    yield "rows", f"{rows['train']} trained on, {rows['held_out']} held out; left out: {left}"
    if loss := getattr(config, "loss", None):
        yield "loss", f"{loss.name}, beta_1 {loss.beta_1:g}, beta_2 {loss.beta_2}"
    yield "optimizer", f"{training.optimizer}, learning rate {training.learning_rate:g}, {training.schedule}"
    yield "batch, epochs", f"{training.batch_size} rows, {training.epochs}"
    yield "longest row", f"{config.data.max_length} tokens"
    yield "seed", str(config.seed)
