"""Free judges for real answers: a model on this machine, or a Python function of one's own.

Both stand behind the client, parser and reply log of a paid judge, and see each pair in both orders like it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.judges import Judge
from eval.judges.sandbox import rated_reply
from optune.chat.client import ChatSettings
from optune.chat.endpoint import completions, in_process
from optune.packaged_models.names import checkpoint_of
from optune.store import content_hash
from optune.types import UserError
from optune.utils.hashing import sha256_of, stable_hash

Rate = Callable[[str, str, str], tuple[float, float]]  # question, first and second answer -> their scores
FREE = {"price_in": 0.0, "price_out": 0.0, "base_url": None}


class LocalModel:
    """A chat model of transformers that answers one request after the other, greedily; loaded at the first."""

    def __init__(self, model: str):
        self.model = model
        self.name = f"local-{Path(model).name}-{stable_hash(content_hash(model))[:12]}"
        self.one_at_a_time = threading.Lock()

    @cached_property
    def network(self) -> Any:
        from transformers import AutoModelForCausalLM

        from optune.utils.checkpoints import load_model

        return load_model(AutoModelForCausalLM, self.model)

    @cached_property
    def tokenizer(self) -> Any:
        from optune.utils.checkpoints import load_tokenizer

        return load_tokenizer(self.model)

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The HTTP status and the chat completion for one request body.

        As vLLM's endpoint it takes `structured_outputs: {"choice": [...]}`: the answer is the likeliest of these texts.
        """
        import torch

        limit = body.get("max_tokens") or 1024
        with self.one_at_a_time, torch.inference_mode():
            asked = self.tokenizer.apply_chat_template(
                body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
            ).to(self.network.device)
            pad = self.tokenizer.pad_token_id or self.tokenizer.eos_token_id
            options = {"do_sample": False, "max_new_tokens": limit, "pad_token_id": pad}
            if choices := (body.get("structured_outputs") or {}).get("choice"):
                options["prefix_allowed_tokens_fn"] = self._only(choices, asked["input_ids"].shape[1])
            ids = self.network.generate(**asked, **options)[0]
        new = ids[asked["input_ids"].shape[1] :]
        message = {"role": "assistant", "content": self.tokenizer.decode(new, skip_special_tokens=True)}
        choice = {"index": 0, "finish_reason": "length" if len(new) == limit else "stop", "message": message}
        used = {"prompt_tokens": asked["input_ids"].shape[1], "completion_tokens": len(new)}
        return 200, {"object": "chat.completion", "model": self.name, "choices": [choice], "usage": used}

    def _only(self, choices: list[str], start: int) -> Callable[[int, Any], list[int]]:
        """For `generate`: the tokens that may follow, so that what comes after `start` is one of `choices`."""
        end = [self.tokenizer.eos_token_id]
        rows = [self.tokenizer(text, add_special_tokens=False)["input_ids"] + end for text in choices]

        def allowed(_: int, ids: Any) -> list[int]:
            said = ids[start:].tolist()
            return [row[len(said)] for row in rows if row[: len(said)] == said and len(row) > len(said)] or end

        return allowed


def judge(model: str | None = None, **options: Any) -> Judge:
    """A local model as a judge; model: a folder, a hub name or `packaged:name`."""
    if not model:
        raise UserError("The judge 'local' needs a model: give --model FOLDER.")
    rater = LocalModel(checkpoint_of(model))
    one = {"concurrency": 1}  # more would only wait for each other, and a run that is stopped for all of them
    return Judge(ChatSettings(model=rater.name, **options | FREE | one), transport=in_process(rater.respond))


def judge_by(function: Rate, **options: Any) -> Judge:
    """A function (question, answer_1, answer_2) -> two scores as a judge; its name changes with its file."""
    name = f"{function.__name__}-{sha256_of(Path(inspect.getfile(function)))[:12]}"

    def reply(prompt: str) -> str:
        return rated_reply(function, prompt, name)

    return Judge(ChatSettings(model=name, **options | FREE), transport=in_process(completions(name, reply)))
