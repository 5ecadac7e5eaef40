"""The contracts of the loop, on a real (random, tiny) policy: sharing, resuming, repeating, by configuration."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from optune.config import RunConfig
from optune.history import History, HistoryView
from optune.loop.algorithm import run_optune
from optune.loop.stages import Stages
from optune.plan.cost_model import prompts_of
from optune.prompts.files import load_prompts
from optune.prompts.sources import varying
from optune.store import hash_files
from optune.types import Prompt, UserError
from optune.utils.files import read_json
from optune.view.run_files import RunFiles


def identities(stages: list[dict]) -> list[tuple]:
    return [(e["iteration"], e["stage"], e["key"], e["digest"], json.dumps(e["counts"])) for e in stages]


def reversed_reward(view: HistoryView, k: int, rng: np.random.Generator) -> np.ndarray:
    """A strategy from outside the package."""
    return view.ranked_by(-view.preferred_reward)[:k]


def moving_window(settings, *, iteration: int, **_) -> list[Prompt]:
    """A prompt source from outside the package: 32 of the file's prompts, half of them new in each iteration."""
    start = 16 * iteration
    return load_prompts(settings.path)[start : start + 32]


@varying("never")
def all_of_them(settings, **_) -> list[Prompt]:
    """A prompt source from outside the package: the whole file, in every iteration."""
    return load_prompts(settings.path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, config: RunConfig):
    """One finished run, its configuration and its directory."""
    run_dir = tmp_path_factory.mktemp("finished")
    return config, run_dir, run_optune(config, run_dir)


def test_one_seed_gives_identical_runs_apart_from_timing(finished, tmp_path):
    config, _, first = finished
    second = run_optune(config, tmp_path)
    assert identities(first.stages) == identities(second.stages)


def test_another_seed_gives_another_run(finished, tmp_path):
    config, _, first = finished
    second = run_optune(config.with_overrides({"seed": 1, "iterations": 0}), tmp_path)
    digest = {e["stage"]: e["digest"] for e in first.stages if e["iteration"] == 0}
    other = {e["stage"]: e["digest"] for e in second.stages}
    assert digest["prompts"] == other["prompts"]
    assert all(digest[stage] != other[stage] for stage in ("generate", "score", "pairs", "train"))


def test_iteration_0_regenerates_everything_and_later_ones_exactly_the_ratio(finished):
    _, _, result = finished
    counts = {e["iteration"]: e["counts"] for e in result.stages if e["stage"] == "select"}
    assert counts[0] == {"prompts": 64, "selected": 64, "reused": 0}
    assert counts[1] == {"prompts": 64, "selected": 32, "reused": 32}


def test_lowest_rewards_are_regenerated_and_the_rest_is_reused(finished):
    config, _, result = finished
    first = History(result.history.files[:1])
    ids = sorted(set(first.frame["prompt_id"]))
    best = first.view(ids, 1, config.seed)
    regenerated = set(result.history.frame.query("iteration == 1")["prompt_id"])
    rewards = dict(zip(best.prompt_ids, best.preferred_reward, strict=True))
    kept = set(ids) - regenerated
    assert max(rewards[i] for i in regenerated) <= min(rewards[i] for i in kept)


def test_rows_in_are_pairs_plus_what_was_left_out_by_reason(finished):
    _, _, result = finished
    for entry in (e for e in result.stages if e["stage"] == "pairs"):
        assert entry["counts"]["pairs"] + sum(entry["counts"]["left_out"].values()) == 64


def test_only_fresh_responses_are_scored(finished):
    _, _, result = finished
    scored = [e["counts"]["rewards"] for e in result.stages if e["stage"] == "score"]
    assert scored == [128, 64]


def test_policies_are_loadable_folders_of_safetensors(finished):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, _, result = finished
    for folder in result.policies:
        AutoModelForCausalLM.from_pretrained(folder)
        AutoTokenizer.from_pretrained(folder)
        assert not [p.name for p in Path(folder).iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_arms_share_the_files_of_iteration_0(finished, tmp_path):
    config, run_dir, first = finished
    arm = config.with_overrides({"selection.strategy": "random"})
    second = run_optune(arm, tmp_path, store=run_dir / "stages")
    shared = [e["path"] for e in first.stages if e["iteration"] == 0]
    assert [e["path"] for e in second.stages if e["iteration"] == 0] == shared
    select = [e for e in second.stages if e["stage"] == "select" and e["iteration"] == 1]
    assert select[0]["path"] not in [e["path"] for e in first.stages]


def test_losses_share_samples_and_rewards_of_iteration_0_but_not_the_policy(finished, tmp_path):
    config, run_dir, first = finished
    second = run_optune(config.with_overrides({"loss.name": "dpo", "iterations": 0}), tmp_path, run_dir / "stages")
    paths = {e["stage"]: e["path"] for e in first.stages if e["iteration"] == 0}
    other = {e["stage"]: e["path"] for e in second.stages}
    assert {stage for stage in paths if paths[stage] != other[stage]} == {"train", "kl"}


def test_a_run_stopped_after_any_stage_continues_to_identical_artefacts(finished, tmp_path):
    config, _, whole = finished

    def stop_at_the_first_new_stage(entry):
        if not entry["reused"]:
            raise KeyboardInterrupt

    for _ in whole.stages:
        with pytest.raises(KeyboardInterrupt):
            run_optune(config, tmp_path, on_stage=stop_at_the_first_new_stage)
    continued = run_optune(config, tmp_path, on_stage=stop_at_the_first_new_stage)  # nothing is left to make
    assert identities(continued.stages) == identities(whole.stages)


def test_a_second_call_makes_nothing_and_keeps_the_ledger(finished):
    config, run_dir, first = finished
    reused = []
    second = run_optune(config, run_dir, on_stage=lambda entry: reused.append(entry["reused"]))
    assert all(reused)
    assert [e["timing"] for e in second.stages] == [e["timing"] for e in first.stages]


def test_a_damaged_artefact_is_set_aside_and_made_again(finished, tmp_path, capsys):
    config, _, _ = finished
    config = config.with_overrides({"iterations": 0})
    first = run_optune(config, tmp_path)
    history = Path(first.history.files[0])
    content = history.read_bytes()
    history.write_bytes(content[: len(content) // 2])
    second = run_optune(config, tmp_path)
    assert history.read_bytes() == content
    assert identities(first.stages) == identities(second.stages)
    assert "set aside" in capsys.readouterr().err


def test_a_run_directory_of_another_configuration_is_refused_and_named(finished):
    config, run_dir, _ = finished
    before = {name: digest for name, digest in hash_files(run_dir).items() if name != "lock"}
    with pytest.raises(UserError, match=r"selection\.ratio: 0\.5 -> 0\.7"):
        run_optune(config.with_overrides({"selection.ratio": 0.7}), run_dir)
    assert {name: digest for name, digest in hash_files(run_dir).items() if name != "lock"} == before


def test_a_run_directory_in_use_is_refused_with_its_holder(finished):
    from optune.store import run_lock

    config, run_dir, _ = finished
    with run_lock(run_dir), pytest.raises(UserError, match=r"in use by process \d+"):
        run_optune(config, run_dir)


def test_best_of_four_fixed_reference_growing_history_and_changing_prompts_by_configuration(config, tmp_path):
    recipe = config.with_overrides(
        {
            "generation.n": 4,
            "training.reference": "sft",
            "pairs.view": "all",
            "prompts.source": f"{__name__}:moving_window",
            "selection": {"strategy": "all", "ratio": 1.0},
            "loss.name": "dpo",
        }
    )
    result = run_optune(recipe, tmp_path)
    generated = [e["counts"]["responses"] for e in result.stages if e["stage"] == "generate"]
    assert generated == [32 * 4, 32 * 4]
    groups = [
        e["counts"]["pairs"] + sum(e["counts"]["left_out"].values()) for e in result.stages if e["stage"] == "pairs"
    ]
    assert groups == [32, 32 + 32]  # everything so far, also of the 16 prompts that have left the set
    files = [read_json(Path(e["path"]) / "stage.json")["inputs"] for e in result.stages if e["stage"] == "train"]
    assert files[0]["reference"] == files[1]["reference"] != files[1]["policy"]


def test_prompts_never_sampled_come_first_when_the_prompt_set_changes(config, tmp_path):
    moving = config.with_overrides({"prompts.source": f"{__name__}:moving_window"})
    result = run_optune(moving, tmp_path)
    fresh = set(result.history.frame.query("iteration == 1")["prompt_id"])
    old = set(result.history.frame.query("iteration == 0")["prompt_id"])
    assert len(fresh) == 16 and not fresh & old


@pytest.mark.parametrize(("source", "each", "by_number"), [(all_of_them, 64, False), (moving_window, 32, True)])
def test_a_source_from_outside_is_planned_and_keyed_as_it_says_it_varies(config, tmp_path, source, each, by_number):
    own = config.with_overrides({"prompts.source": f"{__name__}:{source.__name__}", "prompts.limit": 64})
    assert prompts_of(own) == each
    offered = Stages(own, tmp_path, tmp_path / "stages").prompts(0, own.policy.model, History())
    assert ("iterations" in read_json(offered / "stage.json")["fields"]) is by_number


def test_a_strategy_given_by_module_and_name_is_used(config, tmp_path):
    result = run_optune(config.with_overrides({"selection.strategy": f"{__name__}:reversed_reward"}), tmp_path)
    first = History(result.history.files[:1])
    ids = sorted(set(first.frame["prompt_id"]))
    expected = first.view(ids, 1, config.seed).ranked_by(-first.view(ids, 1, config.seed).preferred_reward)[:32]
    assert set(result.history.frame.query("iteration == 1")["prompt_id"]) == set(expected)


def test_the_static_control_samples_nothing_after_iteration_0(config, tmp_path):
    result = run_optune(config.with_overrides({"selection.strategy": "none"}), tmp_path)
    assert [e["counts"]["responses"] for e in result.stages if e["stage"] == "generate"] == [128, 0]
    assert [e["counts"]["responses"] for e in result.stages if e["stage"] == "kl"] == [64, 64]


def test_the_distance_takes_as_many_responses_as_asked_for_and_changes_no_policy(finished, tmp_path):
    config, run_dir, whole = finished
    for wanted in (4, 0):
        own = run_optune(config.with_overrides({"kl_prompts": wanted}), tmp_path / str(wanted), run_dir / "stages")
        assert own.policies == whole.policies
        measured = [e["counts"] for e in own.stages if e["stage"] == "kl"]
        assert [m["responses"] for m in measured] == ([wanted] * len(own.policies) if wanted else [])
        assert all(m["kl_standard_error"] > 0 for m in measured)
        assert RunFiles.read(tmp_path / str(wanted)).finished


def test_a_policy_has_no_distance_to_itself_and_a_trained_one_has(finished, tmp_path):
    config, _, result = finished
    stages = Stages(config, tmp_path, tmp_path / "stages")
    prompts = stages.prompts(0, config.policy.model, History())
    same = stages.kl(0, config.policy.model, config.policy.model, prompts)
    assert math.isclose(same.counts["kl_to_sft"], 0, abs_tol=1e-4)
    trained = [e["counts"]["kl_to_sft"] for e in result.stages if e["stage"] == "kl"]
    assert all(abs(value) > 1e-3 for value in trained)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("selection.strategy", "lowest_rewrd", "Did you mean 'lowest_reward'"),
        ("loss.name", "wdp", "Unknown loss"),
        ("generation.engine", "fast", "Unknown engine"),
        ("reward.kind", "human", "Unknown reward"),
        ("pairs.pairing", "all", "Unknown pairing"),
        ("prompts.source", "web", "Unknown prompt source"),
    ],
)
def test_a_part_that_does_not_exist_is_named_before_anything_is_computed(config, tmp_path, option, value, sentence):
    with pytest.raises(UserError, match=sentence):
        run_optune(config.with_overrides({option: value}), tmp_path)
    assert not (tmp_path / "stages").exists()


def test_preference_data_opens_with_datasets_in_the_fields_columns(finished):
    from datasets import load_dataset

    _, _, result = finished
    pairs = next(e["path"] for e in result.stages if e["stage"] == "pairs")
    data = load_dataset("parquet", data_files=str(Path(pairs) / "pairs.parquet"), split="train")
    assert {"prompt", "chosen", "rejected", "score_chosen", "score_rejected"} <= set(data.column_names)
    assert all(a > b for a, b in zip(data["score_chosen"], data["score_rejected"], strict=True))


def test_over_long_prompts_are_counted_and_never_cut(config, tmp_path):
    result = run_optune(config.with_overrides({"prompts.max_tokens": 10, "iterations": 0}), tmp_path)
    counts = result.stages[0]["counts"]
    assert counts["too_long"] > 0 and counts["used"] + counts["too_long"] == counts["offered"] == 64


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_stops_naming_prompt_and_response(config, tmp_path, value, monkeypatch):
    from optune.sandbox.parts.gold_reward import Gold

    monkeypatch.setattr(Gold, "score", lambda self, prompts, responses, seed: [0.0, value] * (len(prompts) // 2))
    with pytest.raises(UserError, match=r"prompt '.+', response 1: a reward must be a finite number"):
        run_optune(config, tmp_path)
    assert not (tmp_path / "stages" / "train").exists()


def test_equal_rewards_everywhere_leave_no_pair_and_one_sentence(config, tmp_path, monkeypatch):
    from optune.sandbox.parts.gold_reward import Gold

    monkeypatch.setattr(Gold, "score", lambda self, prompts, responses, seed: [1.0] * len(prompts))
    with pytest.raises(UserError, match="there are none"):
        run_optune(config, tmp_path)


def test_a_folder_that_is_no_checkpoint_is_named(config, tmp_path):
    with pytest.raises(UserError, match="not a checkpoint"):
        run_optune(config.with_overrides({"policy.model": str(tmp_path)}), tmp_path / "run")
