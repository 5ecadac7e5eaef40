"""Learning from rewards in the place of pairs, through the real loop on a random policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.compute.ledger import ledger
from optune.config import RunConfig, load_config
from optune.finished.audit import audit_run
from optune.loop.algorithm import run_optune
from optune.training.learners import Step
from optune.types import UserError
from optune.utils.files import read_json


@pytest.fixture(scope="module")
def rewarded(random_llama: Path, prompt_file: Path) -> RunConfig:
    """Two iterations of RLOO at nano scale: 16 prompts, two updates each."""
    return load_config("nano", recipe="aop_rl").with_overrides(
        {
            "sandbox": None,
            "iterations": 1,
            "policy.model": str(random_llama),
            "prompts": {"path": str(prompt_file), "limit": 16, "max_tokens": 32},
            "generation.max_new_tokens": 6,
            "training.batch_size": 8,
            "evaluation": None,
        }
    )


@pytest.fixture(scope="module")
def finished(rewarded, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("rloo")
    return run_dir, run_optune(rewarded, run_dir)


def train(result) -> list[dict]:
    return [entry for entry in result.stages if entry["stage"] == "train"]


def test_rewards_are_learnt_from_as_the_seed_decodes_and_the_tokens_of_it_are_counted(finished):
    run_dir, result = finished
    assert [e["counts"]["updates"] for e in train(result)] == [2, 2]
    assert [e["counts"]["responses"] for e in train(result)] == [32, 32]
    rows = ledger(result.stages)
    assert [row["tokens_training"] for row in rows] == [e["counts"]["tokens_training"] for e in train(result)]
    assert all(32 <= row["tokens_training"] <= 32 * 6 and row["tokens"] > 0 for row in rows)
    sampling = read_json(Path(train(result)[0]["path"]) / "stage.json")["fields"]["sampling"]["generation"]
    assert (sampling["temperature"], sampling["top_p"]) == (0.9, 1.0)
    assert audit_run(run_dir).problems == []


def test_one_seed_gives_one_policy_and_no_wall_clock_in_the_counts(finished, rewarded, tmp_path):
    again = run_optune(rewarded.with_overrides({"iterations": 0}), tmp_path)
    first = train(finished[1])[0]
    assert (train(again)[0]["digest"], train(again)[0]["counts"]) == (first["digest"], first["counts"])


def test_the_reference_may_be_the_sft_policy(rewarded, finished, tmp_path):
    fixed = run_optune(rewarded.with_overrides({"training.reference": "sft"}), tmp_path)
    ours, theirs = train(fixed), train(finished[1])
    assert ours[0]["digest"] == theirs[0]["digest"]  # they start equal
    assert ours[1]["digest"] != theirs[1]["digest"]


def test_the_default_learner_says_nothing_in_keys_and_a_wrong_name_is_told(rewarded, tmp_path):
    assert "learner" not in RunConfig.model_validate(load_config("nano")).training.model_dump()
    with pytest.raises(UserError, match=r"Unknown learner 'ppo'.*dpo, rloo"):
        run_optune(rewarded.with_overrides({"training.learner": "ppo"}), tmp_path)
    lora = rewarded.with_overrides({"training.lora": {"r": 4}, "iterations": 0})
    with pytest.raises(UserError, match=r"leave out training\.lora"):
        run_optune(lora, tmp_path / "lora")


def copied(step: Step, folder: Path) -> dict:
    """A learner from outside the package: the policy stays as it is."""
    import shutil

    shutil.copytree(step.policy, folder, dirs_exist_ok=True)
    return {"updates": 0, "pairs_seen": len(step.pairs())}


def test_a_learner_from_outside_the_package_is_a_name(rewarded, random_llama, tmp_path):
    result = run_optune(rewarded.with_overrides({"training.learner": f"{__name__}:copied"}), tmp_path)
    assert all(e["counts"]["pairs_seen"] > 0 for e in train(result))
    assert (Path(result.policies[-1]) / "config.json").read_bytes() == (random_llama / "config.json").read_bytes()
