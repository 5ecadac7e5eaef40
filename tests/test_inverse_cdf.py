"""`generation.sampler: inverse_cdf`: the law of nucleus sampling, and tokens that depend on nothing else."""

import pytest
import torch
from scipy.stats import chisquare, kstest
from test_generate_hf import PROMPTS, make, settings, tokens  # noqa: F401 (make is a fixture)
from transformers import AutoModelForCausalLM, AutoTokenizer, TopPLogitsWarper

from optune.config import load_config
from optune.generate import grouped_attention, sampling_key
from optune.generate.hf import sample
from optune.generate.inverse_cdf import invert, pick
from optune.generate.noise import uniform
from optune.generate.prepare import stream_key

FAST = {"sampler": "inverse_cdf"}


@pytest.fixture(scope="module")
def llama(make):  # noqa: F811
    return make(stop=[2, 7, 8, 9, 10])


@pytest.mark.parametrize("vocabulary", [50, 700])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (1.0, 0.9), (0.7, 0.5), (1.3, 0.05)])
def test_tokens_follow_the_law_of_nucleus_sampling(vocabulary, temperature, top_p):
    draws = 40_000
    logits = 2.0 * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(1))
    keys = torch.tensor([stream_key(0, 0, str(i), 0) for i in range(draws)])
    counts = pick(logits.expand(draws, -1), keys, 3, temperature, top_p)[0].bincount(minlength=vocabulary)
    law = TopPLogitsWarper(top_p)(None, logits / temperature).softmax(-1)[0].double()
    assert counts[law == 0].sum() == 0
    expected = draws * law / law.sum()
    common, rare = expected >= 5, (expected > 0) & (expected < 5)
    seen = torch.cat([counts[common], counts[rare].sum()[None]])
    wanted = torch.cat([expected[common], expected[rare].sum()[None]])
    seen, wanted = seen[wanted > 0], wanted[wanted > 0]
    assert len(seen) == 1 or chisquare(seen, wanted).pvalue > 1e-3


def test_the_inverse_is_the_first_token_above_a_share_and_never_one_without_weight():
    weights = torch.rand(64, 1000, generator=torch.Generator().manual_seed(0)) ** 8
    weights[:, ::3] = 0
    for share in (2.0**-49, 0.25, 0.5, 0.999, 1 - 2.0**-49):
        found = invert(weights, torch.full((64,), share, dtype=torch.float64))
        assert (weights[torch.arange(64), found] > 0).all()
        upto = weights.double().cumsum(-1) / weights.double().sum(-1, keepdim=True)
        above = upto[torch.arange(64), found]
        assert (above > share - 1e-6).all()
        assert (above - weights[torch.arange(64), found] / weights.sum(-1) <= share + 1e-6).all()


def test_the_numbers_are_uniform_and_unrelated_between_rows_steps_and_attempts():
    keys = torch.tensor([stream_key(0, 0, str(i), 0) for i in range(5_000)])
    numbers = torch.stack([uniform(keys, step, attempt) for step in (0, 1, 511) for attempt in (0, 1)])
    assert all(kstest(row.numpy(), "uniform").pvalue > 1e-3 for row in numbers)
    assert (torch.corrcoef(numbers) - torch.eye(6)).abs().max() < 0.06


def test_tokens_do_not_depend_on_batch_padding_company_or_threads(llama):
    everything = sample(llama, PROMPTS, settings(**FAST), seed=0, iteration=0)
    smaller = sample(llama, PROMPTS, settings(**FAST, batch_size=2), seed=0, iteration=0)
    backwards = sample(llama, PROMPTS[::-3], settings(**FAST, batch_size=10), seed=0, iteration=0)
    by_response = {(r.prompt_id, r.index): r.token_ids for r in everything}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        threaded = sample(llama, PROMPTS, settings(**FAST), seed=0, iteration=0)
    finally:
        torch.set_num_threads(before)
    assert tokens(everything) == tokens(smaller) == tokens(threaded)
    assert all(by_response[r.prompt_id, r.index] == r.token_ids for r in backwards)
    assert tokens(everything) != tokens(sample(llama, PROMPTS, settings(), seed=0, iteration=0))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_logprob_is_that_of_a_full_forward_pass_at_temperature_1(make, family, temperature):  # noqa: F811
    folder = make(family)
    responses = sample(folder, PROMPTS[:12], settings(**FAST, temperature=temperature), seed=0, iteration=0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = {p.prompt_id: p.text for p in PROMPTS}
    for r in responses:
        prompt = tokenizer(texts[r.prompt_id])["input_ids"]
        with torch.inference_mode():
            logps = model(torch.tensor([[*prompt, *r.token_ids]])).logits[0].log_softmax(-1)
        expected = sum(logps[len(prompt) - 1 + k, t].item() for k, t in enumerate(r.token_ids))
        assert r.logprob == pytest.approx(expected, abs=1e-3)


def test_several_temperatures_and_greedy_go_through_it(llama):
    mixed = sample(llama, PROMPTS, settings(**FAST, temperatures=[1.0, 0.4]), seed=0, iteration=0)
    for k, temperature in enumerate((1.0, 0.4)):
        alone = sample(llama, PROMPTS, settings(**FAST, temperature=temperature), seed=0, iteration=0)
        assert tokens(r for r in mixed if r.index == k) == tokens(r for r in alone if r.index == k)
    greedy = sample(llama, PROMPTS, settings(**FAST, temperature=0.0), seed=0, iteration=0)
    assert tokens(greedy) == tokens(sample(llama, PROMPTS, settings(temperature=0.0), seed=0, iteration=0))


def test_the_attention_without_copies_is_used_inside_alone_and_gives_the_same(llama):
    network = AutoModelForCausalLM.from_pretrained(llama).eval()
    ids, mask = torch.tensor([[0, 0, 11, 12], [13, 14, 15, 16]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])

    def last():
        with torch.inference_mode():
            first = network(ids[:, :3], attention_mask=mask[:, :3], use_cache=True)
            return network(ids[:, 3:], attention_mask=mask, past_key_values=first.past_key_values).logits

    expected = last()
    with grouped_attention.used(network, True):
        assert network.config._attn_implementation == grouped_attention.NAME
        torch.testing.assert_close(last(), expected)
    assert network.config._attn_implementation == "sdpa"


def test_recorded_presets_do_without_it_and_it_is_in_the_key_of_the_engine_that_has_it():
    for preset in ("nano", "tiny"):
        assert "sampler" not in load_config(preset).model_dump()["generation"]
    assert "sampler" not in sampling_key(settings())
    assert sampling_key(settings(**FAST))["sampler"] == "inverse_cdf"
    assert "sampler" not in sampling_key(settings(**FAST, engine="server"))
    assert load_config("smollm2").generation.sampler == "inverse_cdf"
