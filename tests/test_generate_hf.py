"""What sampling promises: the contract of a response, its law, and tokens that depend on nothing else."""

import pytest

from optune.config import SamplingSettings
from optune.generate import ENGINES
from optune.generate.prepare import stream_key
from optune.prompts.tokens import encode_prompts
from optune.types import Prompt, UserError
from optune.utils.registry import resolve

VOCABULARY = 60
EOS = 2
SETTINGS = {
    "n": 2, "temperature": 1.0, "top_p": 0.9, "max_new_tokens": 12, "max_prompt_tokens": 32, "batch_size": 64,
    "dtype": "float32", "trust_remote_code": False,
}  # fmt: skip
PROMPTS = [Prompt(f"p{i}", " ".join(f"w{(7 * i + j) % 50 + 5}" for j in range(1 + i % 9))) for i in range(40)]


@pytest.fixture(scope="module")
def sample():
    return resolve(ENGINES, "hf", "engine")


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Builds a random language model of some family, with a word-level tokenizer, in a folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, PreTrainedTokenizerFast

    sizes = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "initializer_range": 0.2,
    }  # fmt: skip
    families = {
        "llama": lambda: LlamaConfig(**sizes),
        "mistral": lambda: MistralConfig(**sizes, sliding_window=6),
        "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2),
    }

    def build(family="llama", template=None, stop=EOS):
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp(family)
        words = ["<pad>", "<user>", "</s>", "<assistant>", "<unk>", *(f"w{i}" for i in range(5, VOCABULARY))]
        fast = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
        fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="<pad>", eos_token="</s>")
        tokenizer.chat_template = template
        config = families[family]()
        config.vocab_size, config.pad_token_id, config.bos_token_id, config.eos_token_id = VOCABULARY, 0, 1, stop
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return build


@pytest.fixture(scope="module")
def llama(make):
    return make(stop=[EOS, 7, 8, 9, 10])


def settings(**changes):
    return SamplingSettings(**SETTINGS | changes)


def tokens(responses):
    return [r.token_ids for r in responses]


def test_a_response_carries_what_was_sampled_and_nothing_else(sample, llama):
    seen = []
    responses = sample(
        llama, PROMPTS, settings(), seed=3, iteration=1, on_progress=lambda done, of: seen.append((done, of))
    )
    assert [(r.prompt_id, r.index) for r in responses] == [(p.prompt_id, k) for p in PROMPTS for k in range(2)]
    for r in responses:
        stops = [t in {EOS, 7, 8, 9, 10} for t in r.token_ids]
        assert not any(stops[:-1]) and 1 <= len(stops) <= 12
        assert r.finish_reason == ("stop" if stops[-1] else "length")
        assert r.finish_reason == "stop" or len(stops) == 12
        assert "</s>" not in r.text and r.iteration == 1
    assert {r.finish_reason for r in responses} == {"stop", "length"}
    assert len(set(tokens(responses))) > 70
    assert seen == sorted(seen) and seen[-1] == (80, 80)


def test_progress_is_told_within_a_batch(sample, llama):
    seen = []
    told = settings(batch_size=80)
    sample(llama, PROMPTS, told, seed=3, iteration=1, on_progress=lambda done, of: seen.append(done))
    assert seen == sorted(seen) and seen[-1] == 80 and len(set(seen)) == 12  # one batch, and as many steps


@pytest.mark.parametrize("n", [2, 4])
def test_tokens_do_not_depend_on_batch_padding_or_company(sample, llama, n):
    everything = sample(llama, PROMPTS, settings(n=n), seed=0, iteration=0)
    smaller = sample(llama, PROMPTS, settings(n=n, batch_size=n), seed=0, iteration=0)
    backwards = sample(llama, PROMPTS[::-3], settings(n=n, batch_size=5 * n), seed=0, iteration=0)
    assert tokens(everything) == tokens(smaller)
    by_prompt = {(r.prompt_id, r.index): r.token_ids for r in everything}
    assert all(by_prompt[r.prompt_id, r.index] == r.token_ids for r in backwards)


def test_tokens_do_not_depend_on_threads(sample, llama):
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = sample(llama, PROMPTS, settings(), seed=0, iteration=0)
        torch.set_num_threads(2)
        two = sample(llama, PROMPTS, settings(), seed=0, iteration=0)
    finally:
        torch.set_num_threads(before)
    assert tokens(one) == tokens(two)


def test_each_response_is_drawn_at_its_own_temperature_and_as_if_alone(sample, llama):
    mixed = sample(llama, PROMPTS, settings(n=4, temperatures=[1.0, 0.4]), seed=0, iteration=0)
    at = {t: sample(llama, PROMPTS, settings(n=4, temperature=t), seed=0, iteration=0) for t in (1.0, 0.4)}
    assert [r.token_ids for r in mixed] == [at[(1.0, 0.4)[r.index % 2]][i].token_ids for i, r in enumerate(mixed)]
    assert tokens(mixed) != tokens(at[1.0])
    one = sample(llama, PROMPTS, settings(n=4, temperatures=[0.4]), seed=0, iteration=0)
    assert tokens(one) == tokens(at[0.4])


def test_more_responses_per_prompt_extend_the_fewer(sample, llama):
    two = sample(llama, PROMPTS, settings(n=2), seed=0, iteration=0)
    four = sample(llama, PROMPTS, settings(n=4), seed=0, iteration=0)
    assert tokens(two) == tokens(r for r in four if r.index < 2)


def test_seed_iteration_prompt_and_index_each_change_the_stream():
    keys = [
        stream_key(*name) for name in [(0, 0, "a", 0), (1, 0, "a", 0), (0, 1, "a", 0), (0, 0, "b", 0), (0, 0, "a", 1)]
    ]
    assert len(set(keys)) == 5
    assert keys[0] == stream_key(0, 0, "a", 0) == 3746527725579394215


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_logprob_is_that_of_a_full_forward_pass_at_temperature_1(make, sample, family):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make(family)
    responses = sample(folder, PROMPTS[:12], settings(temperature=0.7), seed=0, iteration=0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = {p.prompt_id: p.text for p in PROMPTS}
    for r in responses:
        prompt = tokenizer(texts[r.prompt_id])["input_ids"]
        with torch.inference_mode():
            logps = model(torch.tensor([[*prompt, *r.token_ids]])).logits[0].log_softmax(-1)
        expected = sum(logps[len(prompt) - 1 + k, t].item() for k, t in enumerate(r.token_ids))
        assert r.logprob == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_greedy_decoding_is_that_of_generate(make, sample, family):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make(family)
    responses = sample(folder, PROMPTS[:12], settings(n=1, temperature=0.0), seed=0, iteration=0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for prompt, response in zip(PROMPTS[:12], responses, strict=True):
        inputs = torch.tensor([tokenizer(prompt.text)["input_ids"]])
        expected = model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=12)
        assert list(response.token_ids) == expected[0, inputs.shape[1] :].tolist()


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (1.0, 0.9), (0.7, 0.5), (1.3, 0.05)])
def test_tokens_follow_the_law_of_nucleus_sampling(temperature, top_p):
    import torch
    from scipy.stats import chisquare
    from transformers import TopPLogitsWarper

    from optune.generate.hf import draw

    draws = 40_000
    logits = 1.5 * torch.randn(1, 50, generator=torch.Generator().manual_seed(1))
    keys = torch.tensor([stream_key(0, 0, str(i), 0) for i in range(draws)])
    counts = draw(logits.expand(draws, -1), keys, 3, temperature, top_p).bincount(minlength=50)
    law = TopPLogitsWarper(top_p)(None, logits / temperature).softmax(-1)[0].double()
    support = law > 0
    assert counts[~support].sum() == 0
    if support.sum() > 1:
        assert chisquare(counts[support], draws * law[support] / law[support].sum()).pvalue > 1e-3


def test_the_noise_is_exponential_and_unrelated_between_rows_steps_and_tokens():
    import torch
    from scipy.stats import kstest

    from optune.generate.noise import exponential, mix, signed

    keys = torch.tensor([stream_key(0, 0, str(i), 0) for i in range(5_000)])
    columns = torch.cat([exponential(keys, step, 3) for step in (0, 1, 511)], dim=1).T
    along = exponential(keys[:1], 7, 5_000), torch.cat([exponential(keys[:1], step, 1) for step in range(5_000)]).T
    everything = torch.cat([columns, *along])
    assert all(kstest(row.numpy(), "expon").pvalue > 1e-3 for row in everything)
    assert (torch.corrcoef(everything) - torch.eye(len(everything))).abs().max() < 0.06
    # the first number that SplitMix64 publishes for state 0
    assert mix(torch.tensor(signed(0x9E3779B97F4A7C15))).item() == signed(0xE220A8397B1DCDAF)


def test_the_policy_sees_its_chat_template_with_the_assistants_turn_open(make):
    from transformers import AutoTokenizer

    template = (
        "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}"
        "{% if add_generation_prompt %}<assistant> {% endif %}"
    )
    tokenizer = AutoTokenizer.from_pretrained(make(template=template))
    ids, too_long = encode_prompts(tokenizer, [Prompt("a", "w5 w6"), Prompt("b", "w7")], max_prompt_tokens=4)
    assert [tokenizer.decode(row) for row in ids] == ["<user> w5 w6 </s> <assistant>", "<user> w7 </s> <assistant>"]
    assert too_long == ["a"]


def test_a_prompt_above_the_limit_is_refused_and_not_cut(sample, llama):
    with pytest.raises(UserError, match="'p8'"):
        sample(llama, PROMPTS, settings(max_prompt_tokens=8), seed=0, iteration=0)


def test_a_prompt_without_tokens_is_refused(sample, llama):
    with pytest.raises(UserError, match="'empty'"):
        sample(llama, [*PROMPTS, Prompt("empty", "")], settings(), seed=0, iteration=0)


def test_a_folder_that_is_no_checkpoint_is_named(sample, tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        sample(tmp_path, PROMPTS, settings(), seed=0, iteration=0)


def test_no_prompts_no_responses(sample, tmp_path):
    assert sample(tmp_path, [], settings(), seed=0, iteration=0) == []
