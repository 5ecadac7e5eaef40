"""Learning from rewards on responses sampled on the way: TRL's RLOOTrainer, in the place of PPO.

TRL removed PPO before the pinned version; RLOO is its nearest maintained relative: the same clipped ratio and the same
KL penalty inside the reward, with the mean reward of a prompt's other responses as the baseline that PPO's value model
gave. It samples as the generation section says (`n`, temperature, top-p, length) and so costs tokens of its own, beside
those that the loop has sampled and rewarded for its history; they are counted as `tokens_training`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, PrinterCallback
from trl import RLOOConfig, RLOOTrainer

from optune.config import RunConfig
from optune.training.common import LogTeller, learner_arguments, save_policy, summary
from optune.training.learners import Step
from optune.types import Prompt, Response, UserError
from optune.utils.checkpoints import check_finite, load_model, load_tokenizer
from optune.utils.memory import release_memory
from optune.utils.quiet import quiet_libraries


class _Rewards:
    """The loop's reward as a reward function of TRL's; it counts the responses and tokens that TRL samples."""

    __name__ = "reward"

    def __init__(self, step: Step):
        self.score = step.reward()
        self.step = step
        self.prompts: list[Prompt] = list(step.prompts)
        self.tokens = self.responses = 0

    def __call__(self, *, completions: Sequence[Any], completion_ids: Any, place: Sequence[int], **_: Any) -> Any:
        asked = [self.prompts[i] for i in place]
        # TRL returns a text for a text, and a list with the assistant's message for a chat.
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        responses = [
            Response(prompt.prompt_id, 0, self.step.iteration, tuple(ids), text, "stop")
            for prompt, ids, text in zip(asked, completion_ids, texts, strict=True)
        ]
        self.responses += len(responses)
        self.tokens += sum(len(ids) for ids in completion_ids)
        return self.score(asked, responses)


def train_rloo(step: Step, folder: Path) -> dict[str, Any]:
    """One iteration over the prompts from `step.policy`, against `step.reference`, saved to `folder`.

    An update sees `training.batch_size` prompts with `generation.n` responses each; `loss.beta_1` is the coefficient of
    the KL penalty, the same quantity that it is in DPO. Returns TRL's metrics averaged over the updates, and
    `tokens_training`.
    """
    quiet_libraries()
    config, remote = step.config, step.config.policy.trust_remote_code
    if config.training.lora:
        raise UserError("training.learner 'rloo' trains all weights: leave out training.lora.")
    tokenizer = load_tokenizer(step.policy, trust_remote_code=remote)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = load_model(AutoModelForCausalLM, step.policy, dtype="float32", trust_remote_code=remote)
    model.config._name_or_path = str(step.reference)  # from which TRL loads its reference model
    rewards, started = _Rewards(step), time.perf_counter()
    templated = bool(tokenizer.chat_template)
    rows = [{"prompt": p.chat if templated else p.text, "place": i} for i, p in enumerate(step.prompts)]
    trainer = RLOOTrainer(
        model=model,
        reward_funcs=rewards,
        args=_arguments(config, step.seed, folder),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    if step.on_log:
        trainer.add_callback(LogTeller(step.on_log))
    trainer.train()
    check_finite(model)
    save_policy(trainer, tokenizer, folder, step.policy)
    metrics = summary(trainer.state.log_history)
    metrics.pop("step_time", None)  # wall-clock, which is no count
    del trainer, model
    release_memory()
    spent = {"responses": rewards.responses, "tokens_training": rewards.tokens}
    return {**metrics, **spent, "seconds": {"train_s": time.perf_counter() - started}}


def _arguments(config: RunConfig, seed: int, folder: Path) -> RLOOConfig:
    """TRL's arguments for RLOO."""
    training, sampling = config.training, config.generation
    return RLOOConfig(
        **learner_arguments(training, seed, folder),
        beta=config.loss.beta_1,
        num_generations=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_completion_length=sampling.max_new_tokens,
        # TRL counts responses here, `n` to a prompt; `training` counts prompts.
        per_device_train_batch_size=training.micro_batch_size * sampling.n,
        gradient_accumulation_steps=training.batch_size // training.micro_batch_size,
    )
