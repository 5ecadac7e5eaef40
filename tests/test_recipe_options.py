"""What recipes are made of: length penalty, offline pairs, fresh prompts, training from the SFT policy, validation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.compute.ledger import ledger
from optune.config import load_config, parse_config, recipe_settings
from optune.finished.audit import audit_run
from optune.finished.export import export_policy
from optune.loop.algorithm import run_optune
from optune.pairs.offline import read_offline_pairs
from optune.prompts.files import load_prompts
from optune.prompts.sources import disjoint
from optune.reward.length_penalty import penalised
from optune.store import content_hash, hash_files
from optune.types import Response, UserError
from optune.utils.files import read_json, write_json
from optune.utils.hashing import stable_hash


def counts(result, stage: str) -> list[dict]:
    return [e["counts"] for e in result.stages if e["stage"] == stage]


def folders(result, stage: str) -> list[Path]:
    return [Path(e["path"]) for e in result.stages if e["stage"] == stage]


def holds(run_dir: Path) -> bool:
    found = audit_run(run_dir)
    assert found.problems == [] and found.finished
    return True


@pytest.fixture(scope="module")
def small(config, tmp_path_factory):
    """The test run, as small as it gets: 32 prompts, validated on 16 others."""
    from optune.prompts.files import write_prompts
    from optune.sandbox import prompts

    folder = tmp_path_factory.mktemp("validation")
    write_prompts(folder / "validation.parquet", prompts("validation", 16))
    own = {"prompts.limit": 32, "validation": {"path": str(folder / "validation.parquet")}}
    return config.with_overrides({**own, "selection": {"strategy": "all", "ratio": 1.0}, "loss.name": "dpo"})


@pytest.fixture(scope="module")
def workflow(small, tmp_path_factory):
    """A finished run of the recipe's method, with a length penalty: (configuration, directory, result)."""
    method = recipe_settings("rlhf_workflow")
    own = {f"{section}.{name}": value for section, options in method.items() for name, value in options.items()}
    config = small.with_overrides({**own, "prompts.limit": 60, "reward.length_penalty": 0.05, "iterations": 2})
    run_dir = tmp_path_factory.mktemp("workflow") / "run"
    return config, run_dir, run_optune(config, run_dir)


# --- the recipe ------------------------------------------------------------------------------------------------------


def test_the_recipe_has_the_values_that_its_text_states():
    config = load_config("paper", recipe="rlhf_workflow")
    training, generation = config.training, config.generation
    assert (generation.n, generation.temperatures, generation.top_p) == (8, [1.0, 0.7], 1.0)
    assert generation.max_new_tokens == 2048 and config.prompts.limit == 60_000 and config.iterations + 1 == 3
    assert (training.learning_rate, training.optimizer, training.schedule) == (5e-7, "adamw_torch", "cosine")
    assert (training.warmup_ratio, training.batch_size, training.epochs) == (0.03, 128, 2)
    assert (config.loss.name, config.loss.beta_1, training.reference, training.start) == ("dpo", 0.1, "sft", None)
    assert config.pairs.view == "fresh" and config.validation


def test_the_recipe_trains_from_the_last_policy_against_the_first_on_fresh_prompts_alone(workflow):
    config, run_dir, result = workflow
    inputs = [read_json(folder / "stage.json")["inputs"] for folder in folders(result, "train")]
    sft = content_hash(config.policy.model)
    assert [i["reference"] for i in inputs] == [sft] * 3
    assert [i["policy"] for i in inputs] == [sft, *map(content_hash, result.policies[:-1])]
    asked = [{p.prompt_id for p in load_prompts(f / "prompts.parquet")} for f in folders(result, "prompts")]
    assert list(map(len, asked)) == [20, 20, 20] and len(set.union(*asked)) == 60
    for ids, folder, found in zip(asked, folders(result, "pairs"), counts(result, "pairs"), strict=True):
        assert set(pq.read_table(folder / "pairs.parquet")["prompt_id"].to_pylist()) <= ids
        assert found["pairs"] + sum(found["left_out"].values()) == 20
    assert holds(run_dir)


def test_half_the_responses_are_drawn_at_each_temperature(workflow):
    config, _, result = workflow
    at_one = config.with_overrides({"generation.temperatures": None})
    from optune.generate.hf import sample

    asked = load_prompts(folders(result, "prompts")[0] / "prompts.parquet")
    alone = sample(config.policy.model, asked, at_one.sampling(), seed=config.seed, iteration=0)
    mixed = pq.read_table(folders(result, "generate")[0] / "responses.parquet").to_pylist()
    same = [tuple(row["token_ids"]) == r.token_ids for row, r in zip(mixed, alone, strict=True)]
    assert all(same[::2]) and not all(same[1::2])


# --- length penalty --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-100, 100), st.text(max_size=50)), max_size=20), st.floats(0, 1))
def test_the_penalty_takes_the_same_off_for_every_character(rows, per_character):
    responses = [Response("p", i, 0, (1,), text, "stop") for i, (_, text) in enumerate(rows)]
    found = penalised([reward for reward, _ in rows], responses, per_character)
    assert found == [reward - per_character * len(text) for reward, text in rows]


def test_the_penalised_reward_ranks_and_labels_and_the_model_s_own_is_kept(workflow):
    _, _, result = workflow
    for t, (scored, pairs) in enumerate(zip(folders(result, "score"), folders(result, "pairs"), strict=True)):
        rows, raw = pq.read_table(scored / "history.parquet").to_pylist(), read_json(scored / "raw_rewards.json")
        assert [row["reward"] for row in rows] == [
            r - 0.05 * len(row["text"]) for r, row in zip(raw, rows, strict=True)
        ]
        groups: dict[str, list[float]] = {}
        for row in rows:
            groups.setdefault(row["prompt_id"], []).append(row["reward"])
        for pair in pq.read_table(pairs / "pairs.parquet").to_pylist():
            rewards = groups[pair["prompt_id"]]
            assert (pair["score_chosen"], pair["score_rejected"]) == (max(rewards), min(rewards))
        found = counts(result, "score")[t]
        assert found["reward_mean"] < found["raw_reward_mean"]


def test_without_a_penalty_no_key_and_no_file_of_it(small, tmp_path):
    plain = run_optune(small.with_overrides({"iterations": 0, "validation": None}), tmp_path)
    assert "length_penalty" not in read_json(folders(plain, "score")[0] / "stage.json")["fields"]["reward"]
    assert [p.name for p in folders(plain, "score")[0].iterdir()].count("raw_rewards.json") == 0
    assert {e["stage"] for e in plain.stages}.isdisjoint({"validate"})


# --- fresh prompts ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 6), st.one_of(st.none(), st.integers(1, 12)), st.integers(0, 3))
def test_no_prompt_is_in_two_parts_and_too_few_are_told(tmp_path_factory, n, iterations, per_iteration, seed):
    path = tmp_path_factory.mktemp("p") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"prompt {i}"}) + "\n" for i in range(n)))
    own = SimpleNamespace(
        path=str(path), split="train", columns=None, limit=None, sample_seed=seed, per_iteration=per_iteration
    )
    each = per_iteration or n // iterations
    if not each or each * iterations > n:
        with pytest.raises(UserError, match=r"disjoint: .* need \d+, but .* gives"):
            disjoint(own, iteration=0, iterations=iterations)
        return
    parts = [disjoint(own, iteration=t, iterations=iterations) for t in range(iterations)]
    ids = [p.prompt_id for part in parts for p in part]
    assert all(len(part) == each for part in parts) and len(set(ids)) == len(ids) == each * iterations


# --- history and start -----------------------------------------------------------------------------------------------


def test_history_all_from_the_sft_policy_trains_on_every_prompt_so_far(small, tmp_path):
    own = {"prompts.source": "disjoint", "pairs.view": "all", "training.start": "sft", "training.reference": "sft"}
    result = run_optune(small.with_overrides(own), tmp_path)
    inputs = [read_json(folder / "stage.json")["inputs"] for folder in folders(result, "train")]
    assert {i["policy"] for i in inputs} == {i["reference"] for i in inputs} == {content_hash(small.policy.model)}
    groups = [c["pairs"] + sum(c["left_out"].values()) for c in counts(result, "pairs")]
    assert groups == [16, 32]  # two parts of 16 prompts each
    sampled = [read_json(f / "stage.json")["inputs"]["policy"] for f in folders(result, "generate")]
    assert sampled[1] == content_hash(result.policies[0])  # while the last policy samples
    assert holds(tmp_path)


def test_keep_last_never_frees_the_policy_that_every_iteration_starts_from(small, tmp_path):
    own = {"training.start": "sft", "keep": "last", "validation": None, "iterations": 2}
    before = content_hash(small.policy.model)
    result = run_optune(small.with_overrides(own), tmp_path)
    assert content_hash(small.policy.model) == before and list(Path(small.policy.model).glob("*.safetensors"))
    assert [bool(list(Path(p).glob("*.safetensors"))) for p in result.policies] == [False, False, True]


# --- offline pairs ---------------------------------------------------------------------------------------------------

ROWS = [
    {"prompt": "sort cat dog", "chosen": "cat dog", "rejected": "cat"},
    {"prompt": "sort cat apple", "chosen": "apple cat", "rejected": "apple cat"},
    {"prompt": "sort sun moon", "chosen": "moon sun", "rejected": " "},
    {"prompt": "sort " + "dog " * 60, "chosen": "dog", "rejected": "cat"},
    {"prompt": "sort red blue", "chosen": "blue " * 40, "rejected": "red"},
    {"prompt": [{"role": "user", "content": "sort bread milk"}], "chosen": "bread milk", "rejected": "milk bread"},
]


def offline_file(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_offline_pairs_train_first_or_always_and_every_row_is_used_or_counted(small, tmp_path):
    path = offline_file(tmp_path / "offline.jsonl", ROWS)
    for view, expected in (("fresh", [2, None]), ("all", [2, 2]), ("latest", [2, 2])):
        config = small.with_overrides({"pairs": {"view": view, "offline": path}, "prompts.source": "disjoint"})
        result = run_optune(config, tmp_path / view, tmp_path / "store")
        offline = [c.get("offline") for c in counts(result, "pairs")]
        assert [o and o["pairs"] for o in offline] == expected
        assert offline[0]["left_out"] == {
            "identical_responses": 1,
            "empty_response": 1,
            "too_long_prompt": 1,
            "too_long_response": 1,
        }
        rows = pq.read_table(folders(result, "pairs")[0] / "pairs.parquet").to_pylist()
        assert [r["prompt"] for r in rows if r["chosen_iteration"] < 0] == ["sort cat dog", "sort bread milk"]
        assert len(rows) == counts(result, "pairs")[0]["pairs"]
        updates = counts(result, "train")[0]["updates"]
        assert updates == -(-len(rows) // config.training.batch_size)
        assert holds(tmp_path / view)


def test_ids_that_were_sampled_stay_and_texts_get_an_end_token(random_llama, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(random_llama)
    ids = tokenizer("cat dog", add_special_tokens=False)["input_ids"]
    given = {**ROWS[0], "chosen_token_ids": ids, "rejected_token_ids": [0, 1, 10**6]}
    pq.write_table(pa.Table.from_pylist([given]), tmp_path / "pairs.parquet")
    (pair,) = read_offline_pairs(tmp_path / "pairs.parquet", tokenizer, 32, 16).pairs
    assert pair.chosen.token_ids == tuple(ids) and not pair.chosen.retokenized
    assert pair.rejected.token_ids == (*tokenizer("cat", add_special_tokens=False)["input_ids"], 1)
    assert pair.rejected.retokenized and pair.chosen.iteration == -1


def test_our_own_pairs_serve_as_an_offline_set(workflow, small, tmp_path):
    _, _, before = workflow
    pairs = folders(before, "pairs")[0] / "pairs.parquet"
    config = small.with_overrides({"pairs.offline": str(pairs), "iterations": 0, "loss.name": "wdpo"})
    result = run_optune(config, tmp_path)
    assert counts(result, "pairs")[0]["offline"]["pairs"] == len(pq.read_table(pairs))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "sort a b", "chosen": "a b"}, "row 1: `rejected` must be a text"),
        ({"chosen": "a", "rejected": "b"}, "row 1: no column `prompt`"),
        ({**ROWS[0], "score_chosen": "high"}, "`score_chosen` must be a finite number"),
        ({**ROWS[0], "score_rejected": float("inf")}, "`score_rejected` must be a finite number"),
    ],
)
def test_a_bad_offline_row_is_named(small, tmp_path, row, sentence):
    config = small.with_overrides({"pairs.offline": offline_file(tmp_path / "offline.jsonl", [row])})
    with pytest.raises(UserError, match=sentence):
        run_optune(config, tmp_path / "run")


def test_a_loss_that_weighs_needs_scores(small, tmp_path):
    path = offline_file(tmp_path / "offline.jsonl", ROWS)
    config = small.with_overrides({"pairs.offline": path, "loss.name": "wdpo", "loss.beta_2": 1.0})
    with pytest.raises(UserError, match=r"offline\.jsonl: loss 'wdpo' needs score_chosen"):
        run_optune(config, tmp_path / "run")


def test_an_id_of_two_prompts_is_refused(small, tmp_path):
    asked = load_prompts(small.prompts.path)[0]
    both = small.with_overrides({"prompts.limit": None})
    row = {**ROWS[0], "prompt_id": asked.prompt_id}
    with pytest.raises(UserError, match="is another prompt in"):
        run_optune(
            both.with_overrides({"pairs.offline": offline_file(tmp_path / "offline.jsonl", [row])}), tmp_path / "run"
        )


# --- validation ------------------------------------------------------------------------------------------------------


def test_the_best_policy_on_validation_is_the_result(workflow, tmp_path):
    config, _, result = workflow
    measured = [c["reward_mean"] for c in counts(result, "validate")]
    assert result.best == result.policies[measured.index(max(measured))]
    shown = export_policy(result.best, result.stages, config, tmp_path)
    assert (shown / "model.safetensors").read_bytes() == (Path(result.best) / "model.safetensors").read_bytes()
    card = (shown / "README.md").read_text()
    assert "validation reward" in card and "length penalty" in card and "temperatures | 1, 0.7" in card


def test_without_validation_the_last_policy_is_the_result(small, tmp_path):
    result = run_optune(small.with_overrides({"validation": None}), tmp_path)
    assert result.best == result.policies[-1] and holds(tmp_path)


def test_the_ledger_has_what_validation_took_beside_the_rest(workflow):
    _, _, result = workflow
    for row, validated, sampled in zip(
        ledger(result.stages), counts(result, "validate"), counts(result, "generate"), strict=True
    ):
        assert row["tokens_validation"] == validated["tokens_validation"] and row["tokens"] == sampled["tokens"]
        assert row["validation_s"] > 0


def test_policies_that_validation_chooses_from_are_not_freed():
    with pytest.raises(UserError, match="would free the policies that validation chooses from"):
        load_config("tiny", recipe="rlhf_workflow", overrides=["keep=last"])


# --- the audit -------------------------------------------------------------------------------------------------------


def forged(run_dir: Path, stage: Path, **counts) -> None:
    """Hashes and counts made to fit, in the record and in the manifest."""
    files = hash_files(stage)
    record = read_json(stage / "stage.json")
    record |= {"files": files, "digest": stable_hash(files), "counts": record["counts"] | counts}
    write_json(stage / "stage.json", record)
    manifest = read_json(run_dir / "manifest.json")
    for entry in manifest["stages"]:
        if entry["path"] == str(stage):
            entry |= {"digest": record["digest"], "counts": record["counts"]}
    write_json(run_dir / "manifest.json", manifest)


def test_the_audit_catches_a_forged_validation_and_forged_raw_rewards(small, tmp_path):
    config = small.with_overrides({"iterations": 0, "reward.length_penalty": 0.05})
    for name, sentence in (("validate", "its mean reward is not"), ("score", "not the model's less 0.05")):
        result = run_optune(config, tmp_path / name)
        (stage,) = folders(result, name)
        if name == "score":
            raw = read_json(stage / "raw_rewards.json")
            write_json(stage / "raw_rewards.json", [raw[0] + 1, *raw[1:]])
        forged(tmp_path / name, stage, **({"reward_mean": 9.0} if name == "validate" else {}))
        assert any(sentence in problem for problem in audit_run(tmp_path / name).problems)


def test_options_out_of_range_are_named():
    base = load_config("nano").model_dump()
    for section, value, sentence in (
        ("generation", {"temperatures": []}, "generation.temperatures"),
        ("generation", {"temperatures": [0.7, 0.0]}, "generation.temperatures"),
        ("reward", {"length_penalty": -1}, "reward.length_penalty"),
        ("prompts", {"per_iteration": 5}, "per_iteration is of source 'disjoint'"),
        ("training", {"start": "last"}, "training.start"),
    ):
        with pytest.raises(UserError, match=sentence):
            parse_config({**base, section: {**base[section], **value}}, "test")
