"""What a reward promises: its own template, order kept, padding without effect, and no silent nonsense."""

from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from optune.config import OPERATIONAL, RewardConfig, load_config
from optune.reward import REWARDS, reward_key
from optune.types import Prompt, Response, UserError
from optune.utils.registry import resolve

TEMPLATE = "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}"


def _responses(texts):
    return [Response(f"p{i}", 0, 0, (1,), text, "stop") for i, text in enumerate(texts)]


def _prompts(texts):
    return [Prompt(f"p{i}", text) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Builds a random reward model in a folder and returns settings for it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

    def build(template=TEMPLATE, labels=1, pad=True, bias=None, causal=False, **settings):
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("reward")
        words = ["<unk>", "</s>", "<user>", "<assistant>", *"abcdefgh"] + (["<pad>"] if pad else [])
        fast = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
        fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=fast, eos_token="</s>", unk_token="<unk>", pad_token="<pad>" if pad else None
        )
        tokenizer.chat_template = template
        config = LlamaConfig(
            vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_labels=labels, pad_token_id=tokenizer.pad_token_id, initializer_range=0.3,
        )  # fmt: skip
        model = (LlamaForCausalLM if causal else LlamaForSequenceClassification)(config)
        if bias is not None:
            model.score.weight.data.fill_(bias)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return RewardConfig(model=str(folder), **{"batch_size": 2, "max_length": 64} | settings)

    return build


@pytest.fixture(scope="module")
def classifier():
    return resolve(REWARDS, "sequence_classifier", "reward")


TEXTS = ["a", "b c d", "e f", "a b c d e f g h", "h"]


@pytest.mark.parametrize("pad", [True, False])
def test_scores_keep_their_order_and_do_not_depend_on_batches_or_padding(make, classifier, pad):
    settings = make(pad=pad)
    together = classifier(settings.model_copy(update={"batch_size": 64}))
    prompts, responses = _prompts(TEXTS[::-1]), _responses(TEXTS)
    scores = together.score(prompts, responses, seed=0)
    alone = [together.score([p], [r], seed=0)[0] for p, r in zip(prompts, responses, strict=True)]
    assert scores == pytest.approx(alone, abs=1e-5)
    assert classifier(settings).score(prompts, responses, seed=0) == pytest.approx(scores, abs=1e-5)
    assert len({round(s, 3) for s in scores}) == len(scores)


def test_the_reward_model_reads_its_own_chat_template(make, classifier):
    reward = classifier(make())
    chat = Prompt("p0", "b", messages=({"role": "user", "content": "a"}, {"role": "user", "content": "b"}))
    (ids,) = reward.encode([chat], _responses(["c"]))
    assert reward.tokenizer.decode(ids) == "<user> a </s> <user> b </s> <assistant> c </s>"


def test_without_a_template_prompt_and_response_are_concatenated(make, classifier):
    reward = classifier(make(template=None))
    (ids,) = reward.encode(_prompts(["a b"]), _responses([" c"]))
    assert reward.tokenizer.decode(ids) == "a b c"


def test_a_model_with_two_labels_is_refused(make, classifier):
    with pytest.raises(UserError, match="2 labels"):
        classifier(make(labels=2))


def test_a_language_model_without_a_reward_head_is_refused(make, classifier):
    with pytest.raises(UserError, match="no weights for score"):
        classifier(make(causal=True))


def test_a_reward_that_is_not_finite_names_prompt_and_response(make, classifier):
    with pytest.raises(UserError, match=r"'p0', response 0: the reward is nan"):
        classifier(make(bias=float("nan"))).score(_prompts(["a"]), _responses(["b"]), seed=0)


def test_a_text_above_the_limit_is_refused_and_not_cut(make, classifier):
    with pytest.raises(UserError, match=r"'p0', response 0: 6 tokens"):
        classifier(make(max_length=5)).score(_prompts(["a"]), _responses(["b"]), seed=0)


def test_no_responses_no_scores(make, classifier):
    assert classifier(make()).score([], [], seed=0) == []


def test_gold_noise_depends_on_seed_and_content_alone():
    from optune.sandbox.families import FAMILIES

    gold = resolve(REWARDS, "gold", "reward")
    prompts = _prompts([family.ask(Random(0)) for family in list(FAMILIES.values())[: len(TEXTS)]])
    responses = _responses(TEXTS)
    exact = gold(SimpleNamespace(noise=0.0)).score(prompts, responses, seed=0)
    noisy = gold(SimpleNamespace(noise=2.0))
    scores = noisy.score(prompts, responses, seed=0)
    assert scores == noisy.score(prompts[::-1], responses[::-1], seed=0)[::-1]
    assert scores != noisy.score(prompts, responses, seed=1)
    assert all(a != b for a, b in zip(scores, exact, strict=True))


def test_workers_are_of_the_classifier_and_no_part_of_a_rewards_identity():
    """They may change when a run is continued, and artefacts made without them are found again."""
    plain = load_config("paper", overrides=["reward.workers=null"])
    assert "workers" not in plain.model_dump()["reward"]
    shared = plain.with_overrides({"reward.workers": 2})
    assert reward_key(shared.reward) == reward_key(plain.reward)
    assert "workers" not in shared.model_dump(exclude=OPERATIONAL)["reward"]
    with pytest.raises(UserError, match="workers are of kind sequence_classifier, not gold"):
        load_config("nano").with_overrides({"reward.kind": "gold", "reward.workers": 2})


@pytest.mark.slow
def test_two_workers_give_exactly_the_single_processs_rewards(make, classifier):
    """Chunk after chunk by the same two processes, which end with the reward; one thread each, as the process has."""
    import torch

    settings, threads = make(), torch.get_num_threads()
    texts = [" ".join("abcdefgh"[i % 8 : i % 8 + 1 + i % 5]) for i in range(23)]
    prompts, responses = _prompts(texts[::-1]), _responses(texts)
    torch.set_num_threads(1)
    try:
        alone = classifier(settings)
        shared = classifier(settings.model_copy(update={"workers": 2}))
        seen = []
        for some in (slice(0, 14), slice(14, 23), slice(0, 1), slice(0, 0)):
            assert shared.score(prompts[some], responses[some], 0) == alone.score(prompts[some], responses[some], 0)
            seen.append(_workers())
        assert len(seen[0]) == 2 and seen == [seen[0]] * 4
        del shared
        assert not _workers()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_worker_that_fails_is_one_sentence_and_ends_the_others(make, classifier):
    reward = classifier(make(labels=2, workers=2))
    with pytest.raises(UserError, match=r"reward worker ended with status 1 .*2 labels.*its log is") as error:
        reward.score(_prompts(TEXTS), _responses(TEXTS), 0)
    assert not _workers()
    Path(str(error.value).split("its log is ")[1].rstrip(".")).unlink()


def _workers() -> list[Path]:
    """The reward workers that this process has started."""
    children = Path("/proc/thread-self/children").read_text().split()
    return [p for c in children if b"optune.reward.worker" in (p := Path(f"/proc/{c}/cmdline")).read_bytes()]


def test_a_padding_token_beyond_the_embedding_is_not_used_or_refused(make):
    import json

    from transformers import AutoTokenizer

    settings = make(pad=False)
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # without a row for it in the model
    tokenizer.save_pretrained(settings.model)
    config = Path(settings.model) / "config.json"
    kept = json.loads(config.read_text())

    def reward(pad):
        config.write_text(json.dumps({**kept, "pad_token_id": pad}))
        return resolve(REWARDS, settings.kind, "reward")(settings)

    prompts, answers = _prompts(["a", "a b c d"]), _responses(["e", "f g h"])
    together = reward(None).score(prompts, answers, 0)
    alone = [reward(None).score([p], [a], 0)[0] for p, a in zip(prompts, answers, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    with pytest.raises(UserError, match=r"No model can be loaded from .*Padding_idx must be within num_embeddings"):
        reward(len(tokenizer) - 1).score(prompts, answers, 0)
