"""Preference models (A or B) as rewards: SteamSHP-like ones and language models, and no liking for a place."""

from __future__ import annotations

import pytest
import torch

from eval.reward_agreement import agreement, reward_of
from optune.config import RewardConfig
from optune.reward import REWARDS
from optune.reward.preference import OPPONENT, Preference, template_of
from optune.types import Prompt, Response, UserError
from optune.utils.registry import resolve

WORDS = ["A", "B", "POST:", "RESPONSE", "A:", "B:", "Which", "response", "is", "better?", ".", "good", "bad", "q", "r"]


def tokenizer(words):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *words])}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def random_t5(tmp_path_factory):
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    own = tokenizer(WORDS)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    config = T5Config(vocab_size=len(own), decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **sizes)
    folder = tmp_path_factory.mktemp("t5")
    T5ForConditionalGeneration(config).save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained_t5(random_t5, tmp_path_factory):
    """The same, taught that good is better than bad and than the opponent, and bad worse than it."""
    from transformers import T5ForConditionalGeneration

    from optune.reward.preference import TEMPLATES

    own = tokenizer(WORDS)
    torch.manual_seed(0)
    model = T5ForConditionalGeneration.from_pretrained(random_t5).train()
    pairs = [(x, *pair) for x in ("q", "r") for pair in (("good", "bad"), ("good", OPPONENT), (OPPONENT, "bad"))]
    texts = [TEMPLATES["steamshp"].format(prompt=x, a=a, b=b) for x, w, y in pairs for a, b in ((w, y), (y, w))]
    batch = own(texts, padding=True, return_tensors="pt")
    labels = torch.tensor([[own.convert_tokens_to_ids(v)] for _ in pairs for v in ("A", "B")])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("taught")
    model.save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


def reward(model, **options) -> Preference:
    settings = RewardConfig(kind="preference", model=str(model), **options)
    return resolve(REWARDS, "preference", "reward")(settings)


def response(text, prompt_id="p", index=0):
    return Response(prompt_id, index, 0, (), text, "stop")


def test_a_taught_model_rewards_the_better_response_more(trained_t5):
    found = reward(trained_t5).score([Prompt("p", "q")] * 2, [response("good"), response("bad", index=1)], 0)
    assert found[0] > 1 and found[1] < -1
    rows = [{"prompt": x, "chosen": "good", "rejected": "bad", "category": ""} for x in ("q", "r")]
    assert agreement(rows, reward_of(RewardConfig(kind="preference", model=str(trained_t5))))["agreed"] == 2


def test_a_liking_for_a_place_cancels_out(random_t5):
    own = reward(random_t5)
    rows = [("q", "good", "bad"), ("r", "bad bad", "good")]
    there, back = own.log_odds(rows), own.log_odds([(x, b, a) for x, a, b in rows])
    assert there == pytest.approx([-value for value in back], abs=1e-6)
    assert own.log_odds([("q", "good", "good")]) == pytest.approx([0], abs=1e-6)
    assert abs(own._forward(own._encode([template_of("steamshp").format(prompt="q", a="good", b="good")]))[0]) > 1e-3


def test_rewards_depend_on_neither_batch_nor_order(random_t5):
    prompts = [Prompt(str(i), "q " * (1 + i)) for i in range(5)]
    answers = [response("good bad " * (5 - i), str(i)) for i in range(5)]
    alone = [reward(random_t5, batch_size=1).score([p], [r], 0)[0] for p, r in zip(prompts, answers, strict=True)]
    together = reward(random_t5, batch_size=64).score(prompts[::-1], answers[::-1], 1)[::-1]
    assert alone == pytest.approx(together, abs=1e-5)
    assert reward(random_t5).score([], [], 0) == []


def test_the_reward_is_the_models_own_log_odds(random_t5):
    from transformers import T5ForConditionalGeneration

    own, model = tokenizer(WORDS), T5ForConditionalGeneration.from_pretrained(random_t5).eval()
    odds = []
    for a, b in (("good", OPPONENT), (OPPONENT, "good")):
        text = f"POST: q\n\n RESPONSE A: {a}\n\n RESPONSE B: {b}\n\n Which response is better? RESPONSE"
        with torch.no_grad():
            out = model(
                **own(text, return_tensors="pt", return_token_type_ids=False), decoder_input_ids=torch.tensor([[0]])
            )
        share = out.logits[0, 0].softmax(-1)[own.convert_tokens_to_ids(["A", "B"])]
        odds.append(float((share[0] / share[1]).log()))
    assert reward(random_t5).score([Prompt("p", "q")], [response("good")], 0)[0] == pytest.approx(
        (odds[0] - odds[1]) / 2, abs=1e-5
    )


@pytest.fixture(scope="module")
def random_causal(tmp_path_factory):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    own = tokenizer([*WORDS, "[CONTEXT]", "[RESPONSE", "A]", "B]", "<user>", "<assistant>"])
    own.chat_template = (
        "{% for m in messages %}<user> {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}<assistant> {% endif %}"
    )
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    folder = tmp_path_factory.mktemp("causal")
    LlamaForCausalLM(LlamaConfig(vocab_size=len(own), pad_token_id=0, eos_token_id=1, **sizes)).save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


def test_a_language_model_with_a_template_is_read_where_it_begins_to_answer(random_causal):
    own = reward(random_causal)
    ids = own._encode([own.template.format(prompt="q", a="good", b="bad")])[0]
    assert own.tokenizer.decode(ids) == "<user> [CONTEXT] q [RESPONSE A] good [RESPONSE B] bad <assistant>"
    batch = [("q", "good", "bad"), ("q q q", "good good good", "bad")]
    alone = [own.log_odds([row])[0] for row in batch]
    assert own.log_odds(batch) == pytest.approx(alone, abs=1e-5)
    other = reward(random_causal, template="q {prompt} {b} r {a}")
    assert other.log_odds(batch) != own.log_odds(batch)


def test_what_cannot_be_read_is_named(random_t5, random_llama):
    with pytest.raises(UserError, match=r"lacks \{b\}"):
        reward(random_t5, template="{prompt} {a}")
    with pytest.raises(UserError, match="no single token for each of A and B"):
        reward(random_llama)
    with pytest.raises(UserError, match=r"Prompt 'p', response 0: .* reward\.max_length"):
        reward(random_t5, max_length=5).score([Prompt("p", "q")], [response("good")], 0)
    with pytest.raises(ValueError, match="a template is of kind preference"):
        RewardConfig(kind="gold", template="steamshp")
    with pytest.raises(ValueError, match="needs a model"):
        RewardConfig(kind="preference")


def test_older_configurations_keep_their_keys():
    assert "template" not in RewardConfig(kind="gold").model_dump()


def test_braces_in_texts_and_conversations_stay(random_causal):
    from optune.reward.preference import _filled, _said

    assert _filled("{prompt}|{a}|{b}", "{a}", "{b}", "x") == "{a}|{b}|x"
    chat = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}, {"role": "user", "content": "q"})
    assert _said(Prompt("p", "q", chat)) == "User: q\n\nAssistant: r\n\nUser: q"
