"""The recipes' comparison on made-up raw results whose answer is known, from files to the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.beyond.compare_recipes import FIGURE
from experiments.claims.recipe_contrasts import CLOCKED, MEMBERS
from experiments.compute.arms import REPORT_SEEDS, build_of
from experiments.compute.results import raw_path
from experiments.compute.setting import Setting, made_with
from experiments.report.readme_tables import recipes
from optune.utils.files import write_json

ROOT = Path(__file__).resolve().parents[1]


def write_evidence(folder: Path, lift: dict[str, float]) -> None:
    """Iterations of 100 tokens and 2 seconds, of 50 tokens for OPTune; the writer's are half read by it.

    A member's win score at iteration t is 10 t, plus its lift, plus the seed.
    """
    for name, member in MEMBERS.items():
        for arm in (member, CLOCKED[name]):
            for seed in arm.runs_on(REPORT_SEEDS):
                config = Setting("tiny").arm_config(arm, seed)
                result = {**made_with(config), "arm": arm.name, "seed": seed, "build": build_of(seed), "packages": {}}
                times = range(config.iterations + 1)
                result["timing"] = {"ledger": [_entry(name, t) for t in times]}
                if not arm.probe:
                    result["iterations"] = [_point(t, 10 * t + lift.get(name, 0.0) + seed) for t in times]
                    result["baseline"] = {}
                write_json(raw_path(folder, "tiny", arm.name, seed), result)


def _entry(name: str, t: int) -> dict:
    entry = {"iteration": t, "generation_s": 1.0, "rewarding_s": 0.5, "training_s": 0.5}
    if name in ("aop", "sop", "aop_wdpo"):
        return {**entry, "tokens": 30, "tokens_reference": 10, "tokens_writer_in": 50, "tokens_writer_out": 10}
    return {**entry, "tokens": 50 if name == "optune" and t else 100}


def _point(t: int, score: float) -> dict:
    stages = {"generate": {"prompts": 8, "responses": 16}, "pairs": {"pairs": 8}, "train": {"updates": 2}}
    return {"iteration": t, "win_score": score, "gold_mean": score / 100, "stages": stages}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("results")
    write_evidence(folder, {"rlhf_workflow": 3.0})
    return json.loads(json.dumps(FIGURE.data(Setting("tiny"), folder, REPORT_SEEDS)))


def test_the_budget_is_what_vanilla_spends_in_iterations_0_to_3(data):
    assert data["budget"] == {"tokens": 400, "seconds": 8.0}
    assert data["members"]["vanilla"]["iterations"] == {"tokens": 4.0, "seconds": 4.0}
    assert data["members"]["vanilla"]["updates"] == {"tokens": 8.0, "seconds": 8.0}


def test_each_member_is_read_where_the_budget_ends(data):
    found = {name: member["at"]["tokens"]["win_score"]["mean"] for name, member in data["members"].items()}
    assert found["vanilla"] == found["aop"] == pytest.approx(34.5)  # the fourth policy
    assert found["rlhf_workflow"] == pytest.approx(37.5)
    assert found["optune"] == pytest.approx(64.5)  # 100 + 6 x 50: its seventh
    assert data["members"]["aop"]["at"]["generated"]["win_score"]["mean"] == pytest.approx(74.5)  # twice as far
    assert data["members"]["optune"]["at"]["seconds"]["win_score"]["mean"] == pytest.approx(34.5)
    assert data["members"]["vanilla"]["at"]["half_tokens"]["win_score"]["mean"] == pytest.approx(14.5)
    assert (data["members"]["vanilla"]["peak"]["iteration"], data["members"]["vanilla"]["peak"]["tokens"]) == (3, 400)
    assert data["contrasts"]["recipes-rlhf-workflow-over-vanilla-tokens"]["win_score"]["mean"] == pytest.approx(3.0)
    assert data["contrasts"]["recipes-optune-over-every-tokens"]["win_score"]["mean"] == pytest.approx(27.0)


def test_an_iteration_s_tokens_are_told_by_kind_and_add_up_to_what_it_costs(data):
    for member in data["members"].values():
        counted = member["per_iteration"]
        kinds = sum(value for kind, value in counted.items() if kind.startswith("tokens"))
        assert kinds == pytest.approx(member["tokens"][3] / 4, abs=0.5)


def test_equal_data_gives_equal_pictures_and_every_member_is_told(data, tmp_path):
    one, two = (Path(FIGURE.draw(data, tmp_path / name)[1]).read_bytes() for name in ("one", "two"))
    assert one == two and one.startswith(b"\x89PNG")
    told = "\n".join(FIGURE.lines(data))
    assert all(told.count(f"    {name} ") >= 2 for name in data["members"])
    assert len(recipes(data).split("\n")) == 2 + len(MEMBERS)


def test_committed_arms_reach_both_budgets():
    path = ROOT / "results" / "tiny" / "compare-recipes.json"
    if not path.exists():
        pytest.skip("not computed yet")
    committed = json.loads(path.read_text())
    for name, member in committed["members"].items():
        assert max(member["unspent"].values()) < 0.1, name
        assert member["seconds"] == sorted(member["seconds"]) and member["tokens"] == sorted(member["tokens"])
