"""A model whose padding is its end token, with ChatML and a default system line: nothing takes one for the other."""

from __future__ import annotations

import pytest

from optune.config import LossConfig, RewardConfig, SamplingSettings, TrainingConfig
from optune.prompts.tokens import encode_prompts
from optune.types import Prompt, Response
from optune.utils.checkpoints import load_generation_config, load_tokenizer

END = 2
PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(("Hi", "Name 3 colours, please.", "Say it again " * 3))]
SETTINGS = SamplingSettings(n=16, max_new_tokens=48, batch_size=64)


@pytest.fixture(scope="module")
def tokenizer(chatml_llama):
    return load_tokenizer(chatml_llama)


@pytest.fixture(scope="module")
def responses(chatml_llama):
    from optune.generate.hf import sample

    return sample(chatml_llama, PROMPTS, SETTINGS, seed=0, iteration=0)


@pytest.fixture
def model(chatml_llama):
    from transformers import AutoModelForCausalLM

    from optune.utils.checkpoints import load_model

    return load_model(AutoModelForCausalLM, chatml_llama, dtype="float32")


def prompt_ids(tokenizer) -> list[list[int]]:
    return encode_prompts(tokenizer, PROMPTS, 512)[0]


def test_a_prompt_has_the_default_system_line_once_and_no_second_start(tokenizer):
    ids, _ = encode_prompts(tokenizer, PROMPTS[:1], 512)
    system, user = "system\nYou are a helpful assistant<|im_end|>\n", "user\nHi<|im_end|>\n"
    assert tokenizer.decode(ids[0]) == f"<|im_start|>{system}<|im_start|>{user}<|im_start|>assistant\n"
    own = Prompt("own", "Hi", ({"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}))
    (ids,), _ = encode_prompts(tokenizer, [own], 512)
    assert tokenizer.decode(ids).startswith("<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\n")


def test_a_response_ends_at_its_first_end_token_and_its_reason_says_whether_it_did(responses):
    ended = [r for r in responses if r.finish_reason == "stop"]
    assert ended and len(ended) < len(responses)
    for response in responses:
        assert (response.token_ids[-1] == END) == (response.finish_reason == "stop")
        assert END not in response.token_ids[:-1]
        assert response.finish_reason == "stop" or len(response.token_ids) == SETTINGS.max_new_tokens
        assert "<|im_end|>" not in response.text


def test_a_samplers_logprob_counts_the_end_token_and_padding_changes_nothing(responses, model, tokenizer):
    from optune.training.reference import sequence_logprobs

    ids = prompt_ids(tokenizer)
    rows = [(ids[i // SETTINGS.n], list(r.token_ids)) for i, r in enumerate(responses)]
    sampled = [r.logprob for r in responses]
    assert sequence_logprobs(model, rows, END, batch_size=64) == pytest.approx(sampled, abs=1e-3)
    assert sequence_logprobs(model, rows, END, batch_size=1) == pytest.approx(sampled, abs=1e-3)
    row = next(i for i, r in enumerate(responses) if r.finish_reason == "stop")
    prompt, answer = rows[row]
    without = sequence_logprobs(model, [(prompt, answer[:-1])], END, 1)[0]
    assert sampled[row] < without - 0.01, "the end token has a probability of its own"


@pytest.mark.parametrize("batching", [None, "length_grouped"])
def test_training_moves_the_probability_of_the_end_token(chatml_llama, model, tokenizer, tmp_path, batching):
    """The two answers of every pair differ in the end token alone, and beside them lie longer rows with padding."""
    from transformers import AutoModelForCausalLM

    from optune.training.dpo import train_dpo
    from optune.training.job import TrainJob
    from optune.training.reference import sequence_logprobs
    from optune.utils.checkpoints import load_model

    said = tokenizer("fine")["input_ids"]
    ids = prompt_ids(tokenizer)
    ending = [(prompt, [*said, END], [*said, 40]) for prompt in ids]
    longer = [(prompt, said * 3, [*said * 2, END]) for prompt in ids]
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [dict(zip(names, row, strict=True), score_chosen=1.0, score_rejected=0.0) for row in ending + longer]
    settings = TrainingConfig(learning_rate=1e-3, batch_size=6, micro_batch_size=6, epochs=3, batching=batching)
    loss = LossConfig(name="dpo")
    train_dpo(TrainJob(chatml_llama, chatml_llama, loss, 0.0, settings, 0), rows, tmp_path / "new")
    trained = load_model(AutoModelForCausalLM, tmp_path / "new", dtype="float32")

    def of_end(network) -> float:
        """Mean log-probability of the end token after "fine"."""
        whole = sequence_logprobs(network, [(prompt, [*said, END]) for prompt in ids], END, 8)
        before = sequence_logprobs(network, [(prompt, said) for prompt in ids], END, 8)
        return sum(a - b for a, b in zip(whole, before, strict=True)) / len(ids)

    assert of_end(trained) > of_end(model) + 0.1
    assert load_generation_config(tmp_path / "new").eos_token_id == END
    saved = load_tokenizer(tmp_path / "new")
    assert saved.chat_template == tokenizer.chat_template and saved.pad_token_id == saved.eos_token_id == END
    assert saved("a 12\n\n3")["input_ids"] == tokenizer("a 12\n\n3")["input_ids"]


def test_the_end_tokens_input_embedding_has_a_gradient(model):
    import torch

    embeddings = model.get_input_embeddings()
    embeddings(torch.tensor([END, 5])).sum().backward()
    assert embeddings.weight.grad[[END, 5]].abs().min() > 0


@pytest.mark.parametrize("shared", [True, False])
def test_pairs_in_a_batch_score_as_alone(model, tokenizer, shared):
    from optune.pairs.rows import PreferenceRows
    from optune.training.pair_logprobs import add_pair_head, pair_reference_columns
    from optune.training.reference import reference_columns

    said = tokenizer("fine")["input_ids"]
    rows = PreferenceRows.of(
        [
            {"prompt_ids": prompt, "chosen_ids": [*said * (i + 1), END], "rejected_ids": [END], "score_chosen": 1.0}
            for i, prompt in enumerate(prompt_ids(tokenizer))
        ]
    )
    alone = [reference_columns(model, rows.select([i]), END, 1)[0] for i in range(len(rows))]
    assert reference_columns(model, rows, END, 8) == [pytest.approx(row, abs=1e-4) for row in alone]
    add_pair_head(model)
    found = pair_reference_columns(model, rows, END, shared, max_pairs=8, max_tokens=None)
    assert found == [pytest.approx(row, abs=1e-4) for row in alone]


def test_fine_tuning_learns_the_end_token_and_nothing_after_it(tokenizer):
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from optune.training.sft import encode, with_labels

    rows = [{"prompt": "Hi", "completion": text} for text in ("yes", "certainly so")]
    examples = [with_labels(*pair, tokenizer.eos_token_id) for pair in encode(tokenizer, rows, "completion")]
    batch = DataCollatorForLanguageModeling(pad_token_id=END)(examples)
    learned = [[int(i) for i in row if i != -100] for row in batch["labels"]]
    assert [tokenizer.decode(row) for row in learned] == ["yes<|im_end|>", "certainly so<|im_end|>"]
    assert batch["attention_mask"].sum(1).tolist() == [len(example["input_ids"]) for example in examples]


def test_a_reward_model_on_the_same_tokenizer_scores_a_batch_as_it_scores_rows_alone(chatml_llama, tokenizer, tmp_path):
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from optune.reward.sequence_classifier import SequenceClassifier

    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(chatml_llama)
    config.num_labels = 1
    network = LlamaForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reward = SequenceClassifier(RewardConfig(model=str(tmp_path), batch_size=8, max_length=512))
    answers = [Response(p.prompt_id, 0, 0, (5,), text, "stop") for p, text in zip(PROMPTS, ("", "a", "b c" * 9))]  # noqa: B905
    together = reward.score(PROMPTS, answers, seed=0)
    assert len(set(together)) == 3
    rows = reward.encode(PROMPTS, answers)
    with torch.inference_mode():
        alone = [network(torch.tensor([row])).logits[0, 0].item() for row in rows]
    assert together == pytest.approx(alone, abs=1e-5)


def test_answers_of_other_writers_end_like_the_policys_own(tokenizer):
    from optune.pairs.offline import tokenised

    assert tokenizer.decode(tokenised("Blue.", tokenizer)) == "Blue.<|im_end|>"
