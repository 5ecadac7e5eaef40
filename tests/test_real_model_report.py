"""The real model's report: what it shows before and after arms have met, and that its texts stay texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.claims import real_model
from experiments.compute.arms import INSTRUCTIONS_BUILD_OF_SEED
from experiments.compute.setting import Setting
from experiments.development import reward_models
from experiments.report import beside_score, economy, random_answers, readme_tables, report
from experiments.report.page import page
from optune.types import UserError
from optune.utils.files import read_json, write_json
from tests.test_experiments import result

HOSTILE = "# Not a heading\n<script>alert(1)</script>\n\n| a | b |"


def test_it_tells_gate_limits_and_disclosure_and_lists_only_figures_that_are_run_there():
    text = report.markdown("smollm2", [])
    for heading in ("The gate: do fresh samples matter here?", "What this can say, and what it cannot"):
        assert f"## {heading}\n" in text
    assert "throwaway probe" in text and "fig3" in text
    assert "Figure 7" not in text and "sandbox" not in text.lower().partition("## how this was made")[0]


def test_readmes_table_has_the_last_iterations_means_and_the_lead():
    runs = {"win_score": [60.0, 70.0], "gold_mean": [3.5, 4.0], "met_mean": [0.3, 0.2], "kl_to_sft": [1.0, 4.0]}
    other = {**runs, "win_score": [60.0, 80.0], "kl_to_sft": [1.0, 6.0]}
    lead = {"gain": -5.0, "low": -12.0, "high": 2.0}
    development = {
        "start": {"gold_mean": 3.0, "met_mean": 0.4},
        "by_iteration": {"full": [runs, other], "none": [other, other]},
        "win_score": lead,
        "gold_mean": lead,
    }
    rows = readme_tables.real_model(development).splitlines()
    assert rows[2:5] == [
        "| start policy | 50.0 | 3.00 | 40% | 0.0 |",
        "| ratio 1 | 75.0 | 4.00 | 20% | 5.0 |",
        "| never regenerating (`none`) | 80.0 | 4.00 | 20% | 6.0 |",
    ]
    leads = "-5.0 [-12.0, +2.0] | -5.00 [-12.00, +2.00] | +0 [+0, +0] points | -1.0 [-13.7, +11.7]"
    assert rows[5] == f"| ratio 1 minus `none` [95% interval] | {leads} |"


def test_what_the_policies_gave_up_for_their_score_stands_beside_it(tmp_path):
    for member in real_model.WDPO_ARMS:
        for seed, build in INSTRUCTIONS_BUILD_OF_SEED.items():
            made = result(member.name, seed, 60.0, build=build, preset="smollm2", sandbox=None)
            made["baseline"] |= {"met_mean": 0.4 + 0.01 * build, "gold_mean": 0.5}
            met = 0.1 if member.name == "wdpo-none-1.0" else 0.2
            made["iterations"][-1] |= {"met_mean": met, "stages": {"kl": {"kl_to_sft": 3.0}}}
            write_json(tmp_path / "smollm2" / "raw" / member.name / f"seed{seed}.json", made)
    told = "\n".join(beside_score.section("smollm2", tmp_path))
    whole, baseline = (next(row for row in told.splitlines() if name in row) for name in ("-all-1.0", "| offline"))
    assert "| 5 | 60.0 [60.0, 60.0] | 0.60 [0.60, 0.60] | 20 [20, 20] | 3.0 [3.0, 3.0] |" in whole
    assert baseline.startswith("| offline baseline | 3 trained | 50 | 0.50") and "| 41 [39, 43] | - |" in baseline
    assert "+0.10 [+0.10, +0.10] of gold" in told and "-21 [-22, -20] points of the share of constraints met" in told
    assert "+10 [+10, +10] of constraints met, %" in told and "dpo-random" in told and "| dpo-" not in told
    assert not list(beside_score.section("smollm2", tmp_path / "before"))


def test_a_speed_predicted_from_shares_is_the_papers_where_its_share_is_taken():
    rows = "\n".join(economy.predicted("smollm2"))
    assert "| 71.8% (the paper's Table 1, 7B on eight GPUs) | 2.01 | 1.56 | 1.27 |" in rows


@pytest.mark.parametrize("lead", [8.0, -8.0])
def test_with_every_seed_there_the_report_judges_whether_or_not_the_gate_is_open(lead, tmp_path, monkeypatch):
    rng, timing = np.random.default_rng(0), {"ledger": [], "machine": {"cpu": "a processor", "cores": 2}}
    for member in real_model.WDPO_ARMS:
        for seed, build in INSTRUCTIONS_BUILD_OF_SEED.items():
            facts = {"build": build, "preset": "smollm2", "sandbox": None, "timing": timing}
            made = result(member.name, seed, 55 + rng.normal(0, 3), **facts)
            write_json(tmp_path / "smollm2" / "raw" / member.name / f"seed{seed}.json", made)
    development = read_json(report.RESULTS / "smollm2" / "development.json")
    development["win_score"]["gain"] = lead
    write_json(tmp_path / "smollm2" / "development.json", development)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    verdicts = report.judged("smollm2", tmp_path)
    assert len(verdicts) == 12 and "preview: no verdict" not in {row["verdict"] for row in verdicts}
    text = report.markdown("smollm2", verdicts)
    assert "## Verdicts on the real language model\n" in text
    rows = readme_tables.real_findings(verdicts, real_model.CLAIMS).splitlines()[2:]
    assert len(rows) == len(readme_tables.REAL_SUMMARY) == 6
    assert "not run yet" in rows[-1] and all("**" in row and "win score" in row for row in rows[:-1])
    assert ("within 4.00 of ratio 1" in text) == (lead > 0) and ("no margin" in text) == (lead < 0)


def test_a_reward_model_is_measured_once_and_another_of_the_same_build_stands_beside_it(tmp_path, monkeypatch):
    from optune.instructions.parts import reward_model

    quality = {"agreement_all": 0.7, "agreement_gap_1": 0.76, "rank_correlation_across_prompts": 0.5}
    measured = []

    def report_of(model, table):
        measured.append(model.name)
        return {**quality, "pairs": {"all": 900, "gap_1": 500}}

    answers = tmp_path / "answers.parquet"
    pd.DataFrame({"prompt": []}).to_parquet(answers)
    for name in ("here", "elsewhere"):
        write_json(tmp_path / name / "config.json", {"made": name})
        write_json(tmp_path / name / "stage.json", {"timing": {"wall_s": 600.0}})
    monkeypatch.setattr(reward_models, "RESULTS", tmp_path)
    monkeypatch.setattr(reward_models, "held_out", lambda start, root: answers)
    monkeypatch.setattr(reward_models, "resolve_packaged", lambda config: config)
    monkeypatch.setattr(reward_model, "report", report_of)
    for name in ("here", "here", "elsewhere"):
        monkeypatch.setattr(reward_model, "build", lambda start, seed, root, name=name: tmp_path / name)
        rows = reward_models.measure("smollm2", [2])
    assert measured == ["here", "elsewhere"]
    assert [row["build"] for row in rows] == [2, 2] and rows == read_json(tmp_path / "smollm2" / reward_models.FILE)[
        "reward_models"
    ]
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    shares = "0.76 [0.72, 0.80] of 500 | - | - | 0.70 [0.67, 0.73] of 900"
    assert f"| 2 | {shares} | 0.50 | 10 min | " in "\n".join(report._reward_models("smollm2"))


def test_answers_drawn_at_random_are_quoted_and_never_run(tmp_path, monkeypatch):
    rows = [{"arm": "wdpo-all-1.0", "seed": 0, "prompt": "Write.", "answer": HOSTILE, "gold": 2.5, "met": 0.5}]
    write_json(tmp_path / "smollm2" / random_answers.FILE, rows)
    monkeypatch.setattr(random_answers, "RESULTS", tmp_path)
    shown = page("\n".join(random_answers.section("smollm2")), "title", tmp_path)
    assert "<script" not in shown and "<h1>Not" not in shown and "<table" not in shown
    assert "&lt;script&gt;alert(1)" in shown and "gold 2.5, constraints met 50%" in shown


def test_the_draw_takes_every_run_and_prompt_alike_and_is_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(random_answers, "final_policy", lambda setting, arm, seed: f"{arm.name}/{seed}")
    monkeypatch.setattr(
        random_answers,
        "answers_of",
        lambda policy, config, work_dir: [{"instruction": f"p{i}", "output": f"{policy} says {i}"} for i in range(30)],
    )

    class Made:
        preset, work_dir = "smollm2", tmp_path

        def __init__(self, *_):
            pass

        def committed(self, arm, seed):
            return tmp_path / arm / f"seed{seed}.json"

        computed = committed

        def arm_config(self, arm, seed):
            return None

        def resolve(self, config):
            return config

    for arm in random_answers.WDPO_ARMS[:2]:
        for seed in (0, 3):
            points = [{"gold": [float(i) for i in range(30)], "met": [1.0] * 30}]
            write_json(Made().committed(arm.name, seed), {"iterations": points})
    monkeypatch.setattr(random_answers, "Setting", Made)
    monkeypatch.setattr(random_answers, "RESULTS", tmp_path / "results")
    of_the_first = random_answers.add("smollm2", [0])
    rows = random_answers.add("smollm2", [0, 3])
    assert of_the_first == random_answers.drawn(Made(), 0) == rows[: random_answers.COUNT]  # kept as they were
    assert len(rows) == 2 * random_answers.COUNT and len({row["arm"] for row in rows}) == 2
    for row in rows:
        assert row["answer"] == f"{row['arm']}/{row['seed']} says {row['gold']:.0f}"
        assert row["prompt"] == f"p{row['gold']:.0f}"
    told = "\n".join(random_answers.section("smollm2"))
    assert told.count("**wdpo-") == random_answers.COUNT and "seed 0**" in told and "seed 3**" in told


def test_a_seed_whose_runs_lie_on_another_machine_is_not_drawn_from():
    with pytest.raises(UserError, match="SEEDS=9"):
        random_answers.drawn(Setting("smollm2"), 9)
