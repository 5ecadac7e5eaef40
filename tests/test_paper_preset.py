"""The paper preset from end to end on small stand-ins: only paths, sizes and what needs GPUs differ from the preset."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optune.config import RunConfig, differences, load_config
from optune.history import read_responses
from optune.prompts.files import load_prompts
from optune.prompts.tokens import encode_prompts
from optune.types import Prompt, Response, UserError

QUESTIONS = [
    f"{verb} {thing} in {n} words, please."
    for verb in ("Describe", "Praise", "Explain")
    for thing in ("a river", "the moon", "bread", "an engine")
    for n in ("ten", "twenty")
]
# The kind of template that Zephyr has: turns as lines, markers that are plain text, each turn closed by the end token.
POLICY_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# The kind that reward models on Mistral have: another one, which writes its own first token.
REWARD_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)


def tokenizer_of(template: str, **special: str):
    """Byte-level pieces; beside the template it would add the first token to every text, as Mistral's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    first = ["<unk>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        QUESTIONS, trainers.BpeTrainer(vocab_size=400, special_tokens=first, initial_alphabet=alphabet)
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **special
    )
    tokenizer.chat_template = template
    return tokenizer


def mistral_config(tokenizer, **changes):
    from transformers import MistralConfig

    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=64,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        **changes,
    )


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    """A random Mistral whose padding is its end token, as Zephyr's is."""
    import torch
    from transformers import MistralForCausalLM

    folder = tmp_path_factory.mktemp("policy")
    tokenizer = tokenizer_of(POLICY_TEMPLATE, pad_token="</s>")
    torch.manual_seed(0)
    MistralForCausalLM(mistral_config(tokenizer)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory) -> Path:
    """A random Mistral sequence classifier with one label, and no padding token anywhere."""
    import torch
    from transformers import MistralForSequenceClassification

    folder = tmp_path_factory.mktemp("reward")
    tokenizer = tokenizer_of(REWARD_TEMPLATE)
    torch.manual_seed(1)
    MistralForSequenceClassification(mistral_config(tokenizer, num_labels=1)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ultrachat(tmp_path_factory) -> Path:
    """UltraChat-200k's columns: the prompt's text, and the whole chat with its answers."""
    rows = []
    for i, question in enumerate(QUESTIONS):
        turns = [("user", question), ("assistant", "As you wish."), ("user", "More."), ("assistant", "No.")]
        messages = [{"content": content, "role": role} for role, content in turns]
        rows.append({"prompt": question, "prompt_id": f"{i:064x}", "messages": messages})
    path = tmp_path_factory.mktemp("ultrachat") / "train_sft.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def ultrafeedback(tmp_path_factory) -> Path:
    """UltraFeedback's columns as the binarised set has them; its answers and scores are not ours to use."""
    rows = []
    for i, question in enumerate(QUESTIONS):
        chats = {
            side: [{"content": question, "role": "user"}, {"content": side, "role": "assistant"}]
            for side in ("chosen", "rejected")
        }
        scores = {"score_chosen": 8.0, "score_rejected": 5.0}
        rows.append({"prompt": question, "prompt_id": f"{i:064x}", **chats, "messages": chats["chosen"], **scores})
    path = tmp_path_factory.mktemp("ultrafeedback") / "train_prefs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def small(policy, reward_model, ultrachat) -> RunConfig:
    """The paper preset with other paths and sizes."""
    return load_config("paper").with_overrides(
        {
            "iterations": 1,
            "threads": 1,
            "policy.model": str(policy),
            "reward.model": str(reward_model),
            "reward.max_length": 256,
            "reward.workers": 2,
            "prompts.path": str(ultrachat),
            "prompts.limit": 16,
            "prompts.max_tokens": 128,
            "generation.engine": "hf",  # the preset's own is tried below, where it is installed
            "generation.max_new_tokens": 12,
            "generation.batch_size": 16,
            "training.batch_size": 8,
            "training.micro_batch_size": 4,
            "launch.processes": 2,
            "launch.config": "ddp",  # the one thing but the engine that a CPU cannot do: FSDP needs GPUs
        }
    )


def test_only_paths_and_sizes_are_overridden(small):
    changed = {line.split(":")[0] for line in differences(load_config("paper").model_dump(), small.model_dump())}
    sizes = {"iterations", "threads", "prompts.limit", "prompts.max_tokens", "reward.max_length"}
    sizes |= {"generation.max_new_tokens", "generation.batch_size", "training.batch_size"}
    sizes |= {"reward.workers", "launch.processes"}
    of_gpus = {"generation.engine", "launch.config"}  # vLLM is tried below; FSDP spreads a policy over GPUs alone
    assert changed == {"policy.model", "reward.model", "prompts.path", *of_gpus, *sizes}


def test_both_data_sets_give_the_same_prompts_and_none_of_their_answers(ultrachat, ultrafeedback):
    chat, feedback = load_prompts(ultrachat), load_prompts(ultrafeedback)
    assert chat == feedback and [p.text for p in chat] == QUESTIONS
    assert all(p.chat == [{"role": "user", "content": p.text}] for p in chat)


def test_the_policy_sees_its_own_template_with_the_assistants_turn_open(policy):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(policy)
    (ids,), _ = encode_prompts(tokenizer, [Prompt("p", "Describe bread.")], 128)
    assert tokenizer.decode(ids) == "<|user|>\nDescribe bread.</s>\n<|assistant|>\n"
    own = tokenizer.apply_chat_template([{"role": "user", "content": "Describe bread."}], add_generation_prompt=True)
    assert ids == own["input_ids"] and tokenizer.bos_token_id not in ids


def test_the_reward_model_sees_its_own_template_one_first_token_and_no_token_of_the_policys(policy, small):
    from transformers import AutoTokenizer

    from optune.reward.sequence_classifier import SequenceClassifier

    tokenizer = AutoTokenizer.from_pretrained(policy)
    sampled = [*tokenizer("It is warm.", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    text = tokenizer.decode(sampled, skip_special_tokens=True)
    reward = SequenceClassifier(small.reward)
    (ids,) = reward.encode([Prompt("p", "Describe bread.")], [Response("p", 0, 0, tuple(sampled), text, "stop")])
    assert reward.tokenizer.decode(ids) == "<s>[INST] Describe bread. [/INST] It is warm.</s>"
    assert ids.count(reward.tokenizer.bos_token_id) == ids.count(reward.tokenizer.eos_token_id) == 1


def test_a_reward_model_without_padding_is_read_at_its_rows_last_token(reward_model, small):
    """As it is read one row at a time, where nothing is padded; rows end with the end token."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from optune.reward.sequence_classifier import SequenceClassifier

    prompts = [Prompt(f"p{i}", question) for i, question in enumerate(QUESTIONS[:6])]
    responses = [Response(p.prompt_id, 0, 0, (), "It is. " * (i + 1), "stop") for i, p in enumerate(prompts)]
    settings = small.reward.model_copy(update={"dtype": "float32", "workers": None})
    reward = SequenceClassifier(settings)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model)
    with torch.inference_mode():
        alone = [model(torch.tensor([row])).logits.item() for row in reward.encode(prompts, responses)]
    assert reward.score(prompts, responses, seed=0) == pytest.approx(alone, abs=1e-4)


def test_the_presets_for_gpus_sample_with_vllm_the_papers_on_eight_where_it_rewards_too():
    small, paper = load_config("small"), load_config("paper")
    assert (small.generation.engine, paper.generation.engine) == ("vllm", "vllm")
    assert small.generation.vllm is None and paper.generation.vllm.data_parallel_size == 8
    assert small.reward.workers is None and paper.reward.workers == 8


def test_the_papers_preset_trains_sharded_on_eight_gpus(monkeypatch):
    """A 7B policy's training fits no single GPU, and what is configured is what `launch` takes."""
    import torch

    from optune.training import launch

    paper = load_config("paper")
    assert (paper.launch.config, paper.launch.processes, launch.kind(paper.launch)) == ("fsdp", 8, "FSDP")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    launch.check(paper.launch, paper.training)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="there is none here"):
        launch.check(paper.launch, paper.training)


@pytest.mark.slow
def test_the_paper_preset_runs_with_its_own_engine(small, real_python, tmp_path):
    """Real vLLM in the loop: iteration 1 samples from the policy that iteration 0 trained."""
    import torch
    from transformers import MistralForCausalLM

    from optune.loop.algorithm import run_optune

    policy, tokenizer = tmp_path / "policy", tokenizer_of(POLICY_TEMPLATE, pad_token="</s>")
    torch.manual_seed(0)
    config = mistral_config(tokenizer, head_dim=32)  # a size that vLLM has kernels for
    MistralForCausalLM(config).to(torch.bfloat16).save_pretrained(policy)
    tokenizer.save_pretrained(policy)
    vllm = {"python": real_python, "options": {"enforce_eager": True}}
    own = small.with_overrides(
        {"policy.model": str(policy), "generation.engine": "vllm", "generation.vllm": vllm, "reward.workers": None}
    )
    result = run_optune(own, tmp_path / "run")
    counts = {(e["iteration"], e["stage"]): e["counts"] for e in result.stages}
    assert [counts[t, "generate"]["responses"] for t in (0, 1)] == [32, 16]
    assert [counts[t, "pairs"]["pairs"] + sum(counts[t, "pairs"]["left_out"].values()) for t in (0, 1)] == [16, 16]
    assert all(counts[t, "kl"]["responses"] == 16 for t in (0, 1))  # vLLM gives log-probabilities


@pytest.mark.slow
def test_the_paper_preset_runs_from_end_to_end_on_stand_ins(small, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from optune.loop.algorithm import run_optune
    from optune.reward.sequence_classifier import SequenceClassifier
    from optune.utils.threads import cpu_threads

    result = run_optune(small, tmp_path)
    counts = {(e["iteration"], e["stage"]): e["counts"] for e in result.stages}
    assert [counts[t, "select"]["selected"] for t in (0, 1)] == [16, 8]
    assert [counts[t, "score"]["rewards"] for t in (0, 1)] == [32, 16]
    tokenizer = AutoTokenizer.from_pretrained(small.policy.model)
    for response in (r for file in result.history.files for r in read_responses(file)):
        assert response.text == tokenizer.decode(response.token_ids, skip_special_tokens=True)
        assert "<|user|>" not in response.text or response.finish_reason == "length"
    pairs = next(e["path"] for e in result.stages if e["stage"] == "pairs" and e["iteration"] == 1)
    sampled = {(r.prompt_id, r.token_ids) for file in result.history.files for r in read_responses(file)}
    for row in pq.read_table(Path(pairs) / "pairs.parquet").to_pylist():
        assert {(row["prompt_id"], tuple(row[f"{side}_token_ids"])) for side in ("chosen", "rejected")} <= sampled
        assert row["score_chosen"] > row["score_rejected"]
    policy = AutoModelForCausalLM.from_pretrained(result.policies[-1])
    assert policy.config.model_type == "mistral" and AutoTokenizer.from_pretrained(result.policies[-1]).chat_template
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config"]["preset"] == "paper"
    alone, again = small.with_overrides({"reward.workers": None}), []
    run_optune(alone, tmp_path, on_stage=again.append)  # how many processes reward is no part of what is made
    assert len(again) == len(result.stages) and all(entry["reused"] for entry in again)
    asked = {p.prompt_id: p for p in load_prompts(small.prompts.path)}
    with cpu_threads(1):
        for file in result.history.files:
            fresh = read_responses(file)
            rewards = SequenceClassifier(alone.reward).score([asked[r.prompt_id] for r in fresh], fresh, seed=0)
            assert rewards == [r.reward for r in fresh]
