"""`view`: what the page's data says of a run, what it says of what it leaves out, and that no text can be markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up_run import made_up_run

from optune.__main__ import main
from optune.loop.algorithm import run_optune
from optune.types import UserError
from optune.view.histories import EXTREMES, LONGEST_TEXT
from optune.view.page import write_page
from optune.view.run_files import RunFiles
from optune.view.statistics import PHASES, Trajectories, bin_edges, iteration_rows

ROOT = Path(__file__).resolve().parents[1]
MARKUP = "</script><script>document.title='owned'</script><!--<img src=x onerror=alert(1)>&amp;\u2028\u2029"


def block(page: str) -> str:
    return re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]


def data_of(path) -> dict:
    return json.loads(block(path.read_text("utf-8")))


def view(tmp_path, *run_dirs, **options) -> dict:
    write_page(run_dirs, tmp_path / "view.html", **options)
    return data_of(tmp_path / "view.html")


def statistics(run_dir) -> list[dict]:
    run = RunFiles.read(run_dir)
    return iteration_rows(run, Trajectories(run), bin_edges([run]))


def test_a_real_runs_page_agrees_with_its_manifest_and_its_history(config, tmp_path):
    result = run_optune(config, tmp_path / "run")
    found = view(tmp_path, tmp_path / "run")
    counts = {(e["iteration"], e["stage"]): e["counts"] for e in result.stages}
    for row in found["runs"][0]["iterations"]:
        t = row["t"]
        assert row["tokens"] == counts[t, "generate"]["tokens"]
        assert row["truncated"] == pytest.approx(counts[t, "generate"]["truncated_share"])
        assert row["fresh"]["mean"] == pytest.approx(counts[t, "score"]["reward_mean"])
        assert row["pairs"]["n"] == counts[t, "pairs"]["pairs"]
        assert row["weight"]["mean"] == pytest.approx(counts[t, "train"]["weights/mean"], abs=0.01)
        assert row["kl"] == counts[t, "kl"]["kl_to_sft"] and row["kl_error"] is None  # nano leaves kl_prompts alone
        assert row["memory"] == max(e["timing"]["memory_peak_gb"] for e in result.stages if e["iteration"] == t)
    frame = result.history.frame
    shown = {p["id"]: p["runs"][0] for p in found["prompts"]}
    assert shown.keys() == set(frame["prompt_id"]) and found["runs"][0]["finished"]
    for prompt_id, rows in frame.groupby("prompt_id"):
        sampled = [(r[0], r[1], r[2]) for r in shown[prompt_id]["responses"]]
        expected = zip(rows["iteration"], rows["index"], rows["reward"].round(5), strict=True)
        assert sampled == [(t, k, pytest.approx(reward)) for t, k, reward in expected]


def test_the_newest_responses_of_all_prompts_are_sampled_and_kept_ones(tmp_path):
    run = made_up_run(tmp_path / "run", prompts=40)
    responses = RunFiles.read(run).responses
    newest = responses[responses["iteration"] == responses.groupby("place")["iteration"].transform("max")]
    last = statistics(run)[-1]
    assert last["latest"]["n"] == 80 and last["fresh"]["n"] == 40
    assert last["latest"]["mean"] == pytest.approx(newest["reward"].mean())
    assert sum(last["latest"]["bins"]) == 80


def test_regenerated_prompts_are_those_whose_rank_lies_below_the_cut(tmp_path):
    found = view(tmp_path, made_up_run(tmp_path / "run", prompts=40))
    for prompt in found["prompts"]:
        run = prompt["runs"][0]
        for t in (1, 2):
            assert any(r[0] == t for r in run["responses"]) == (run["rank"][t] <= 20)


def test_a_pair_has_its_gap_and_the_weight_of_equation_6(tmp_path):
    found = view(tmp_path, made_up_run(tmp_path / "run"))
    for prompt in found["prompts"]:
        run = prompt["runs"][0]
        reward = {(r[0], r[1]): r[2] for r in run["responses"]}
        assert [p[0] for p in run["pairs"]] == [0, 1, 2]
        for _, ct, ci, rt, ri, gap, weight in run["pairs"]:
            assert gap == pytest.approx(reward[ct, ci] - reward[rt, ri], abs=1e-4)
            assert weight == pytest.approx(1 / (1 + np.exp(-2.0 * gap)), abs=1e-3)


def test_what_selection_saved_is_the_kept_prompts_at_the_iterations_own_cost(tmp_path):
    first, second, _ = statistics(made_up_run(tmp_path / "run", prompts=40))
    assert first["saved"] is None
    assert second["saved"]["tokens"] == pytest.approx(second["tokens"])
    assert second["saved"]["seconds"] == pytest.approx(20 * 0.012)


def test_a_run_under_way_shows_what_it_has(tmp_path):
    under_way = made_up_run(tmp_path / "run", until=(1, "score"))
    found = view(tmp_path, under_way)["runs"][0]
    assert not found["finished"] and found["at"] == [1, 2, "score"]
    first, second = found["iterations"]
    assert first["chosen"] and second["chosen"] is None and second["kl"] is None and second["fresh"]


def test_a_run_that_has_rewarded_nothing_yet_and_a_folder_that_is_no_run_are_told(tmp_path):
    with pytest.raises(UserError, match="no response has been rewarded yet"):
        RunFiles.read(made_up_run(tmp_path / "early", until=(0, "generate")))
    with pytest.raises(UserError, match="there is no such file"):
        RunFiles.read(tmp_path)


def test_a_run_directory_that_was_moved_is_read_where_it_is(tmp_path):
    before = made_up_run(tmp_path / "before")
    before.rename(tmp_path / "after")
    page = view(tmp_path, tmp_path / "after")
    assert len(page["prompts"]) == 40 and page["runs"][0]["iterations"][0]["kl_error"] == 0.02


def test_a_folder_called_run_is_named_after_what_ran(tmp_path):
    run, mine = made_up_run(tmp_path / "demo" / "run"), made_up_run(tmp_path / "mine-seed0")
    what = "lowest_reward at ratio 0.5, seed 0"
    name = view(tmp_path, run)["runs"][0]["name"]
    assert name.endswith(f", {what}") and not name.startswith(",")
    title = re.search("<title>(.*?)</title>", (tmp_path / "view.html").read_text("utf-8"))[1]
    assert title == f"{name} · OPTune"
    assert [one["name"] for one in view(tmp_path, run, mine)["runs"]] == [name, "mine-seed0"]
    again = made_up_run(tmp_path / "other" / "run")
    assert [one["name"] for one in view(tmp_path, run, again)["runs"]] == ["demo/run", "other/run"]


def test_prompts_that_do_not_fit_are_left_out_at_random_and_counted_and_extremes_stay(tmp_path):
    run = made_up_run(tmp_path / "run", prompts=400)
    whole = write_page([run], tmp_path / "whole.html")
    assert whole["prompts"] == whole["of"] == 400
    limit = whole["bytes"] // 2
    part = view(tmp_path, run, largest=limit)
    page = (tmp_path / "view.html").read_bytes()
    assert 0.9 * limit < len(page) <= limit
    drawn = [p for p in part["prompts"] if not p.get("extra")]
    assert len(drawn) == part["drawn"] < part["total"] == 400
    everything = data_of(tmp_path / "whole.html")
    assert [p["id"] for p in drawn] == [p["id"] for p in everything["prompts"]][: len(drawn)], "first of the same order"
    assert part["runs"] == everything["runs"], "statistics are those of all prompts"
    gains = {p["id"]: p["runs"][0]["gain"] for p in everything["prompts"] if p["runs"][0]["gain"] is not None}
    ranked = sorted(gains, key=gains.get)
    assert {*ranked[:EXTREMES], *ranked[-EXTREMES:]} <= {p["id"] for p in part["prompts"]}


def test_the_draw_does_not_depend_on_rewards(tmp_path):
    ids = [
        [p["id"] for p in view(tmp_path, made_up_run(tmp_path / f"run{seed}", seed=seed))["prompts"]] for seed in (0, 1)
    ]
    assert ids[0] == ids[1] != sorted(ids[0])


def test_two_runs_show_the_same_prompts_beside_each_other(tmp_path):
    runs = [made_up_run(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    found = view(tmp_path, *runs)
    assert [run["name"] for run in found["runs"]] == ["one", "two"]
    assert len(found["prompts"]) == 40 and all(len(p["runs"]) == 2 and all(p["runs"]) for p in found["prompts"])
    more = view(tmp_path, runs[0], made_up_run(tmp_path / "more", prompts=50))
    assert sum(p["runs"][0] is None for p in more["prompts"]) == 10
    with pytest.raises(UserError, match="one run or two"):
        write_page([*runs, runs[0]], tmp_path / "three.html")


def test_hostile_texts_are_data_and_come_back_unchanged(tmp_path):
    run = made_up_run(tmp_path / "run", text=lambda i, t, k: f"{MARKUP}{i}{t}{k}\x00\x1b @@SCRIPT@@ @@DATA@@")
    write_page([run], tmp_path / "view.html", extra=[{"kind": "table", "title": MARKUP, "columns": [], "rows": []}])
    page = (tmp_path / "view.html").read_text("utf-8")
    assert not set("<>&\u2028\u2029") & set(block(page))

    class Tags(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag, attrs):
            self.found.append(tag)

    tags = Tags()
    tags.found = []
    tags.feed(page)
    assert tags.found.count("script") == 2 and not {"img", "iframe", "link", "object"} & set(tags.found)
    texts = [r[5] for p in data_of(tmp_path / "view.html")["prompts"] for r in p["runs"][0]["responses"]]
    assert all(text.startswith(MARKUP) for text in texts)


def test_the_policy_of_the_page_allows_its_own_script_and_style_and_no_network(tmp_path):
    write_page([made_up_run(tmp_path / "run")], tmp_path / "view.html")
    page = (tmp_path / "view.html").read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page)[1]
    assert policy.startswith("default-src 'none';")
    for kind in ("style", "script"):
        text = re.search(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", page)
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", page)


def test_a_very_long_text_is_cut_and_says_so(tmp_path):
    found = view(tmp_path, made_up_run(tmp_path / "run", prompts=4, text=lambda i, t, k: "x" * (LONGEST_TEXT + 1234)))
    text = found["prompts"][0]["runs"][0]["responses"][0][5]
    assert len(text) < LONGEST_TEXT + 100 and "1,234 more characters" in text


def test_sections_of_a_caller_are_checked_and_shown(tmp_path):
    run = made_up_run(tmp_path / "run")
    curve = {"kind": "curve", "title": "Gold", "y": "gold", "series": [{"name": "x", "points": [{"x": 0, "y": 1}]}]}
    checks = [{"name": "short", "met": True}]
    answers = {
        "kind": "answers",
        "title": "Held out",
        "names": ["before", "after"],
        "rows": [
            {"prompt": "?", "answers": [{"text": "a", "checks": [{"name": "short", "met": True}]}, {"text": "b"}]}
        ],
    }
    sections = view(tmp_path, run, extra=[curve, answers])["sections"]
    assert [s["kind"] for s in sections] == ["curve", "answers"]
    assert sections[1]["rows"][0]["answers"][0]["checks"] == checks
    with pytest.raises(UserError, match="Extra sections"):
        view(tmp_path, run, extra=[{"kind": "chart", "title": "?"}])


def test_held_out_answers_stand_before_and_after(config, prompt_file, tmp_path):
    validated = config.with_overrides({"validation.path": str(prompt_file), "validation.limit": 8})
    run_optune(validated, tmp_path / "run")
    (section,) = view(tmp_path, tmp_path / "run")["sections"]
    assert section["names"] == ["after iteration 0", "after iteration 1"] and len(section["rows"]) == 8
    assert all(row["prompt"] and len(row["answers"]) == 2 for row in section["rows"])


def test_the_command_writes_into_the_run_and_says_how_much_it_shows(tmp_path, capsys):
    run = made_up_run(tmp_path / "run")
    assert main(["view", str(run)]) == 0
    assert (run / "view.html").exists() and "all of its 40 prompts" in capsys.readouterr().out
    assert main(["view", str(tmp_path / "none")]) == 2
    assert main(["view", str(run), "--max-mb", "0.01"]) == 2
    assert "allow more" in capsys.readouterr().err


def test_every_phase_of_the_time_chart_has_a_colour_of_its_own():
    page, style = (ROOT / "optune" / "view" / f"page.{kind}" for kind in ("js", "css"))
    phases = re.search(r"const PHASES = (\[\[.*?\]\]);", page.read_text("utf-8"))[1]
    keys = [key for *_, key in json.loads(phases)]
    assert len(set(keys)) == len(PHASES) == len(keys)
    for key in keys:
        assert f".fill-{key} " in style.read_text("utf-8")
