"""Tables 2-4 and Figure 7 on made-up raw results whose answer is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from experiments.compute.arms import build_of
from experiments.compute.results import raw_path
from experiments.compute.setting import Setting, world
from experiments.figures.registry import PAPER, figure_of
from experiments.paper import fig7_human_study_page as fig7
from experiments.paper import table2_alpaca_eval as table2
from experiments.paper import table3_benchmarks as table3
from experiments.paper import table4_human_study as table4
from optune.types import UserError
from optune.utils.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]


def put(base: Path, arms, seeds, content) -> Path:
    """Write a raw result for each arm and seed: `content(arm, seed)` beside what identifies it."""
    for arm in arms:
        for seed in seeds:
            config = Setting("tiny").arm_config(arm, seed)
            facts = {
                "preset": "tiny",
                "config": config.model_dump(exclude={"seed": True, "sandbox": {"build"}}),
                "sandbox": world(config),
                "arm": arm.name,
                "seed": seed,
                "build": build_of(seed),
            }
            write_json(raw_path(base, "tiny", arm.name, seed), {**facts, **content(arm, seed)})
    return base


# --- Table 2 ---------------------------------------------------------------------------------------------------------


def alpaca(arm, seed: int) -> dict:
    rate = 50.0 + seed + 10 * arm.name.endswith("lowest_reward-0.7")
    return {
        "win_rate": rate,
        "length_controlled_winrate": rate - 1,
        "lc_standard_error": 1.5,
        "lc_variant": "length_controlled_minimal",
        "avg_length": 25,
        "n": 800,
        "unparsed": 5,
    }


def test_table2_averages_over_seeds_beside_the_papers_values(tmp_path):
    put(tmp_path, table2.ARMS, (0, 1, 2), alpaca)
    data = table2.FIGURE.data(Setting("tiny"), tmp_path)
    best = data["arms"]["wdpo-lowest_reward-0.7"]
    assert best["lc_win_rate"]["mean"] == pytest.approx(60)
    assert best["lc_win_rate"]["high"] == pytest.approx(60 + 4.302653 / 3**0.5)  # t(2) at 97.5%, deviation 1
    assert (best["lc_standard_error"], best["paper"], best["unparsed"]) == (1.5, 16.45, 15)
    assert data["prompts"] == 805
    assert any("60.0 [57.5, 62.5]" in line and line.endswith("16.45") for line in table2.lines(data))
    assert len(table2.draw(data, tmp_path / "table2")) == 2


def test_table2_of_one_seed_has_no_interval_and_can_be_drawn(tmp_path):
    put(tmp_path, table2.ARMS, (0,), alpaca)
    data = table2.FIGURE.data(Setting("tiny"), tmp_path)
    assert data["arms"]["wdpo-all-1.0"]["lc_win_rate"] == {"mean": 49.0, "low": None, "high": None}
    table2.draw(data, tmp_path / "table2")


# --- Table 3 ---------------------------------------------------------------------------------------------------------

COLUMNS = ("Sandbox acc_norm", "Sandbox group", "Sandbox mc2", "Sandbox generation")


def scores(value: float) -> dict:
    columns = {name: {"value": value, "stderr": 0.02, "n": 512} for name in COLUMNS}
    return {"columns": columns, "average": {"value": value, "stderr": 0.01}}


def benchmarks(arm, seed: int) -> dict:
    models = {"final": scores(0.6 + seed / 100)}
    if arm.name == table3.MEASURES_ALL:
        models |= {"sft": scores(0.5 + build_of(seed) / 10), "baseline": scores(0.55)}
    return {"suite": "sandbox", "lm_eval": "0", "models": models}


def test_table3_counts_the_sft_model_once_per_build_and_policies_once_per_seed(tmp_path):
    put(tmp_path, table3.ARMS, (0, 1, 2, 3), benchmarks)
    data = table3.FIGURE.data(Setting("tiny"), tmp_path)
    assert data["models"]["sft"]["average"]["mean"] == pytest.approx(55)  # builds 0 and 1: 50 and 60
    policy = data["models"]["wdpo-random-0.5"]["average"]
    assert policy["mean"] == pytest.approx(61.5)
    assert policy["standard_error"] == pytest.approx(1)
    assert list(data["models"]) == ["sft", "baseline", *(member.name for member in table3.MEMBERS)]
    assert set(data["models"]) == set(data["paper"])
    assert "not the paper's" in table3.lines(data)[-1]


def test_table3_of_one_build_gives_no_interval_to_what_was_measured_once(tmp_path):
    put(tmp_path, table3.ARMS, (0, 1, 2), benchmarks)
    sft = table3.FIGURE.data(Setting("tiny"), tmp_path)["models"]["sft"]["average"]
    assert (sft["low"], sft["high"]) == (None, None)


# --- Table 4 and Figure 7 --------------------------------------------------------------------------------------------


def answers(arm, seed: int) -> dict:
    rows = [
        {"prompt_id": f"p{i}", "instruction": f"say {i}", "output": f"{i} from {arm.name}", "generator": "final policy"}
        for i in range(60)
    ]
    return {"answers": rows}


@pytest.fixture
def answered(tmp_path) -> Path:
    return put(tmp_path / "results", table4.ARMS, (0,), answers)


def test_table4_without_people_says_in_data_and_print_that_it_is_a_dry_run(answered):
    data = table4.FIGURE.data(Setting("tiny"), answered)
    assert data == table4.FIGURE.data(Setting("tiny"), answered)
    assert data["ratings_of"] == "dry run, simulated raters"
    assert "dry run, simulated raters" in "\n".join(table4.lines(data))
    assert data["study"] == {"prompts": 50, "raters": 8}
    assert data["analysis"]["ratings"] == 400
    assert not [name for name in data if "verdict" in name]


def rated_by_people(answered: Path, folder: Path) -> Path:
    """The study with ratings that prefer the answer of OPTune every time, in files that don't say `simulated`."""
    from eval.human_study.ratings import import_ratings
    from eval.human_study.simulate import simulate
    from experiments.compute.results import read_raw

    study = table4.write_study(read_raw(answered, "tiny", table4.ARMS, (0,)), folder)
    by_id = {item.item_id: item for item in study.items}
    files = simulate(study, folder / "returned")
    for path in files:
        content = {**read_json(path), "simulated": False}
        for row in content["ratings"]:
            row["choice"] = "1" if by_id[row["item"]].a_first else "2"
        write_json(path, content)
    assert import_ratings(folder, files).accepted == 400
    return folder


def test_table4_takes_peoples_ratings_where_they_are(answered, tmp_path):
    shutil.copytree(rated_by_people(answered, tmp_path / "study"), answered / "tiny" / "human_study")
    data = table4.FIGURE.data(Setting("tiny"), answered)
    assert data["ratings_of"] == "people"
    assert data["analysis"]["comparisons"]["OPTune 0.7 vs random 0.7"]["win"]["estimate"] == 1
    told = "\n".join(table4.lines(data))
    assert "simulated" not in told
    assert "100.00 [100.00, 100.00]" in told


def test_table4_refuses_ratings_of_other_answers(answered, tmp_path):
    shutil.copytree(rated_by_people(answered, tmp_path / "study"), answered / "tiny" / "human_study")
    other = raw_path(answered, "tiny", table4.ARMS[0].name, 0)
    result = read_json(other)
    result["answers"][0]["output"] = "another answer"
    write_json(other, result)
    with pytest.raises(UserError, match="belong to study"):
        table4.FIGURE.data(Setting("tiny"), answered)


def test_fig7_is_the_exported_page_and_does_without_a_browser(answered, tmp_path, monkeypatch, capsys):
    data = fig7.FIGURE.data(Setting("tiny"), answered)
    assert data["page"].lstrip().startswith("<!")
    assert data["ratings_on_page"] == 50
    assert "lowest_reward" not in fig7.lines(data)[0]
    monkeypatch.setattr(fig7, "BROWSERS", ())
    assert fig7.draw(data, tmp_path / "fig7") == []
    assert "No Chromium" in capsys.readouterr().out


def test_fig7_is_taken_anew_only_where_the_page_is_another_one(tmp_path, monkeypatch):
    """Each of these browsers, like those of two machines, draws the same page in its own way."""
    taken = []

    def screenshot(browser, page, picture):
        taken.append(page.read_text())
        Image.new("RGB", (8, 8), (len(taken), 0, 0)).save(picture)

    monkeypatch.setattr(fig7, "screenshot", screenshot)
    monkeypatch.setattr(fig7.shutil, "which", lambda name: name)
    path, picture = tmp_path / "fig7", tmp_path / "fig7.png"
    assert fig7.draw({"page": "<p>one</p>"}, path) == [str(picture)]
    first = picture.read_bytes()
    assert fig7.draw({"page": "<p>one</p>"}, path) == [] and picture.read_bytes() == first
    assert fig7.draw({"page": "<p>two</p>"}, path) == [str(picture)] and picture.read_bytes() != first
    assert taken == ["<p>one</p>", "<p>two</p>"]


def test_the_committed_picture_shows_the_committed_page():
    page = read_json(ROOT / "results" / "tiny" / "fig7.json")["page"]
    assert fig7.shown_by(ROOT / "figures" / "tiny" / "fig7.png") == fig7.page_hash(page)


def test_the_papers_figures_and_tables_stand_in_the_papers_order():
    assert list(PAPER) == [*(f"fig{n}" for n in range(1, 8)), *(f"table{n}" for n in range(1, 7))]
    assert all(figure_of(name).name == name for name in PAPER)
