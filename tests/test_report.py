"""The report says what the committed results say, in a page that needs nothing else; README and docs quote it."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from experiments.claims.claims import CLAIMS, REAL_ONLY
from experiments.claims.contrasts import INTERPOLATED
from experiments.claims.verdicts import CLASSES, bootstrap_check
from experiments.compute.last_digits import same, write_if_new
from experiments.documents import PLACES, written
from experiments.report import readme_tables
from experiments.report.page import page
from experiments.report.report import WORDS, judged, markdown, tables
from optune.utils.files import read_json
from tests.test_experiments import evidence

ROOT = Path(__file__).resolve().parents[1]


@cache
def committed(preset: str = "tiny") -> list[dict]:
    return read_json(ROOT / "results" / preset / "verdicts.json")["claims"]


def test_readme_and_docs_agree_with_the_results():
    for preset in ("tiny", "smollm2"):
        for name, text in tables(preset, committed(preset), ROOT / "results" / preset).items():
            assert written(name) == text.strip(), f"run `{PLACES[name].command}` and commit {PLACES[name].file}"


def test_readmes_six_rows_say_what_was_measured_not_how_far_it_is_from_the_claim():
    rows = readme_tables.summary(committed()).splitlines()[2:]
    assert len(rows) == len(readme_tables.SUMMARY) == 6
    contrasts = {row["claim"]: row["outcomes"] for row in committed()}
    seconds = contrasts["fig5-speedup-0.5"]["seconds"]
    assert f"| {1.56 + seconds['estimate']:.2f} times as fast [" in rows[-1]
    assert f"| {0.5 + contrasts['table1-generation-dominates']['share']['estimate']:.0%} of the time [" in rows[0]
    gate = contrasts["fig3-parity-with-full"]["win_score"]["gate"]
    assert f"never regenerating (`none`): win score {gate['estimate']:+.1f} [" in rows[2]


def test_one_seed_gives_a_report_without_verdicts(tmp_path):
    shutil.copytree(ROOT / "results" / "tiny" / "raw", tmp_path / "tiny" / "raw", ignore=lambda _, names: more(names))
    shutil.copy(ROOT / "results" / "tiny" / "development.json", tmp_path / "tiny")
    assert judged("tiny", tmp_path) == []


def more(names: list[str]) -> list[str]:
    """Of a folder's names, the results of all seeds but the first."""
    return [name for name in names if name.startswith("seed") and name != "seed0.json"]


@pytest.mark.slow
def test_committed_verdicts_are_what_the_committed_raw_results_give():
    assert same(judged("tiny"), committed())


def test_the_committed_report_is_what_the_committed_verdicts_and_figures_give():
    text = (ROOT / "results" / "tiny" / "REPORT.md").read_text("utf-8")
    assert text == markdown("tiny", committed())


def test_every_claim_has_a_row_or_is_said_to_need_the_real_thing():
    text = (ROOT / "results" / "tiny" / "REPORT.md").read_text("utf-8")
    for key in (*(claim.key for claim in CLAIMS), *(key for key, _, _ in REAL_ONLY)):
        assert f"`{key}`" in text
    assert all(row["verdict"] in CLASSES for row in committed())


def test_the_page_needs_nothing_else_and_runs_nothing():
    html = (ROOT / "results" / "tiny" / "report.html").read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', html)
    assert sources and all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert "<script" not in html


def test_text_in_a_report_is_escaped(tmp_path):
    made = page("| a |\n|---|\n| <script>alert(1)</script> |\n\n<img src=x onerror=alert(1)>\n", "<b>", tmp_path)
    assert "<script" not in made and "<img" not in made and "<title>&lt;b&gt;</title>" in made


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.figure == "fig3"], ids=lambda c: c.key)
@pytest.mark.parametrize("measure", ["win_score", "gold_mean"])
def test_the_bootstrap_resamples_the_claims_own_contrast(claim, measure):
    raw = evidence({"wdpo-lowest": 70, "wdpo-random": 60, "wdpo-all": 80, "wdpo-none": 40})
    for results in raw.values():  # outcomes that are the means of their prompts, as in real results
        for point in (point for result in results for point in result["iterations"]):
            letters = point["verdicts"]
            point["win_score"] = 50 + 100 * (letters.count("W") - letters.count("L")) / len(letters)
            point["gold_mean"] = float(np.mean(point["gold"]))
    low, high = bootstrap_check(claim, raw, measure)
    assert low - 1e-9 <= claim.contrast(raw, measure).mean() <= high + 1e-9


def test_contrasts_without_prompts_have_no_bootstrap():
    assert all(bootstrap_check(c, {}, "win_score") is None for c in CLAIMS if c.contrast in INTERPOLATED)
    assert all(bootstrap_check(c, {}, c.outcomes[0]) is None for c in CLAIMS if c.figure == "table1")


def test_the_recommendations_numbers_are_those_of_the_verdicts():
    from experiments.report.numbers import filled
    from optune.types import UserError

    row = next(row for row in committed() if row["claim"] == "fig3-lowest-over-random")
    test = row["outcomes"]["gold_mean"]
    told = filled("{fig3-lowest-over-random:gold_mean}, {fig3-lowest-over-random}", committed())
    assert told.startswith(f"{test['estimate']:+.2f} [{test['low']:+.2f}, ") and told.endswith(row["verdict"])
    with pytest.raises(UserError, match="no-such-claim"):
        filled("{no-such-claim:gold_mean}", committed())
    assert filled("{tokens-per-response} tokens", committed()) == "5.9 tokens"
    for file in ("recommendation.md", "which_recipe.md"):
        assert not re.findall(r"\d+\.\d+", (WORDS / file).read_text("utf-8")), "typed by hand"


def test_the_rank_correlations_in_the_docs_are_those_of_the_sandboxs_report():
    text = " ".join((ROOT / "docs" / "tiny_world.md").read_text("utf-8").split())
    builds = read_json(ROOT / "results" / "tiny" / "sandbox.json")["builds"].values()
    first, second, third = (f"{build['rank_correlation_across_prompts']:.2f}" for build in builds)
    assert f"({first}, {second} and {third} on the three development builds)" in text


def test_a_committed_file_stays_where_only_last_digits_would_change(tmp_path):
    path = tmp_path / "verdicts.json"
    write_if_new(path, {"gain": 0.1 + 0.2, "arms": [1.0]})
    before = path.read_bytes()
    write_if_new(path, {"gain": 0.3, "arms": [1.0]})
    assert path.read_bytes() == before
    write_if_new(path, {"gain": 0.30001, "arms": [1.0]})
    assert read_json(path)["gain"] == 0.30001


def test_the_contents_link_every_section_and_figure_of_the_report_as_text_and_as_page():
    folder = ROOT / "results" / "tiny"
    text, made = (folder / "REPORT.md").read_text("utf-8"), (folder / "report.html").read_text("utf-8")
    listed = text.partition("## Contents\n")[2].partition("\n## ")[0]
    links = dict(re.findall(r"- \[(.+)\]\(#(.+)\)", listed))
    sections = [title for title in re.findall(r"^## (.+)$", text, re.MULTILINE) if title != "Contents"]
    figures = re.findall(r"^### (.+)$", text.partition("\n## Figure by figure\n")[2], re.MULTILINE)
    place = sections.index("Figure by figure") + 1
    assert list(links) == [*sections[:place], *figures, *sections[place:]]
    for anchor in links.values():
        assert made.count(f'id="{anchor}"') == 1 and f'href="#{anchor}"' in made
