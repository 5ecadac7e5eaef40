"""The human study: an exact balance, a blinded page, an import that trusts nothing, and a table that is right."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.human_study.__main__ import main
from eval.human_study.analysis import (
    agreeing_pairs,
    alpha_of,
    alpha_terms,
    analyse,
    cluster_bootstrap,
    format_results,
    read_verdicts,
    share,
)
from eval.human_study.design import assign_raters, balanced_sides, draw_study
from eval.human_study.export import export
from eval.human_study.page import TEMPLATE, render_page, sealed_texts
from eval.human_study.ratings import import_ratings, read_ratings, spans
from eval.human_study.simulate import simulate
from eval.human_study.spreadsheet import COLUMNS, guard, unguard
from eval.human_study.study import Comparison, digest, read_answers, read_key
from optune.types import UserError

HOSTILE = (
    "<script>document.title = 'owned'</script></textarea><!--<script><img src=x onerror=alert(1)>",
    '=HYPERLINK("http://example.com/","click")',
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd \u2066without an end\n\u0645\u0631\u062d\u0628\u0627",
    "@@STUDY@@ @@PAGE_DIGEST@@ ${alert(1)} \\u003c \u2028\u2029\x00\x1b",
    "long " * 10_000,
    "",
)


def write_outputs(path, count, name, hostile=()):
    rows = [{"instruction": f"Question {i}?", "output": f"{name} says {i}.", "generator": name} for i in range(count)]
    rows += [{"instruction": f"Hostile {i}?", "output": text, "generator": name} for i, text in enumerate(hostile)]
    path.write_text(json.dumps(rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Three models' outputs, under the file names of the paper's comparisons; the last prompts are hostile."""
    folder = tmp_path_factory.mktemp("outputs")
    for name in ("optune_0.7", "optune_1.0", "random_0.7"):
        write_outputs(folder / f"{name}.json", 60, f"SECRET-{name}", HOSTILE)
    return folder


@pytest.fixture(scope="module")
def comparisons(outputs):
    a, b, c = (outputs / f"{name}.json" for name in ("optune_0.7", "optune_1.0", "random_0.7"))
    return Comparison("full", a, b), Comparison("random", a, c)


@pytest.fixture
def small(tmp_path, comparisons):
    """A study of 4 prompts, 2 raters and one comparison: 8 ratings, 4 per rater."""
    folder = tmp_path / "study"
    return folder, export(comparisons[:1], folder, prompts=4, raters=2, ratings_per_pair=2)


def ratings_file(path, study, rater, choice="1", changes=()):
    """What a rater's page downloads, every item rated alike."""
    rows = [
        {"item": item.item_id, "item_digest": study.item_digest(item), "choice": choice, "rated_at": "2026-01-01"}
        for item in study.items_of(rater)
    ]
    content = {
        "format": "human-study-ratings/1",
        "study": study.study_id,
        "rater": rater,
        "page_digest": study.page_digests[rater],
        "ratings": rows,
    }
    path.write_text(json.dumps(content | dict(changes)), "utf-8")
    return path


# --- design ----------------------------------------------------------------------------------------------------------


def test_the_default_is_400_ratings_balanced_by_pair_rater_comparison_and_side(comparisons):
    study = draw_study(comparisons)
    by_comparison = Counter(study.pairs[item.pair_id].comparison for item in study.items)
    assert len(study.pairs) == 100 and by_comparison == {"full": 200, "random": 200}
    assert set(Counter(item.pair_id for item in study.items).values()) == {4}
    assert set(Counter(item.pair_id for item in study.items if item.a_first).values()) == {2}
    for rater in study.raters:
        items = study.items_of(rater)
        load = Counter(study.pairs[item.pair_id].comparison for item in items)
        left = Counter(study.pairs[item.pair_id].comparison for item in items if item.a_first)
        assert load == {"full": 25, "random": 25} and set(left.values()) <= {12, 13}
        assert len({study.pairs[item.pair_id].prompt_id for item in items}) == 50, "no rater meets a prompt twice"
    assert len({item.item_id for item in study.items}) == 400


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_allowed_design_is_balanced(data):
    raters = data.draw(st.integers(1, 9))
    per_pair = data.draw(st.integers(1, raters))
    block = raters // np.gcd(raters, per_pair)
    check_design(
        raters,
        per_pair,
        block * data.draw(st.integers(1, 5)),
        data.draw(st.integers(1, 3)),
        seed=data.draw(st.integers(0, 99)),
    )


def test_a_design_of_odd_pairs_and_odd_raters_is_balanced():
    for seed in range(100):
        check_design(raters=8, per_pair=3, prompts=24, comparisons=3, seed=seed)


def check_design(raters: int, per_pair: int, prompts: int, comparisons: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = assign_raters(prompts, comparisons, raters, per_pair, rng)
    for part in rows:
        assert all(len(set(row)) == per_pair for row in part)
        assert set(np.bincount(part.ravel(), minlength=raters)) == {prompts * per_pair // raters}
        sides = balanced_sides(part, rng)
        assert np.abs(2 * sides.sum(axis=1) - per_pair).max() <= 1
        for rater in range(raters):
            assert abs(2 * sides[part == rater].sum() - (part == rater).sum()) <= 1
    if comparisons * per_pair <= raters:
        for prompt in range(prompts):
            assert len(set(rows[:, prompt].ravel())) == comparisons * per_pair


def test_a_seed_gives_one_study_and_another_seed_another(comparisons):
    first, again, other = (draw_study(comparisons, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.study_id != other.study_id and first.items != other.items


def test_sides_raters_and_prompts_vary_with_the_seed(comparisons):
    """Each rating has either answer on the left about as often, over seeds."""
    left = [np.mean([i.a_first for i in draw_study(comparisons, prompts=4, seed=s).items[:3]]) for s in range(120)]
    assert 0.4 < np.mean(left) < 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": 51}, "take 50 or 52 prompts"),
        ({"ratings_per_pair": 9}, "only 8 raters"),
        ({"prompts": 100}, "the files share 66"),
        ({"raters": 0}, "at least 1"),
    ],
)
def test_numbers_that_cannot_balance_are_refused(comparisons, changes, message):
    with pytest.raises(UserError, match=message):
        draw_study(comparisons, **changes)


# --- reading outputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a list of answers"),
        ("{", "not valid JSON"),
        ('[{"instruction": "a"}]', "row 1: needs a text `output`"),
        ('[{"instruction": "a", "output": "b"}, 3]', "row 2"),
        ('[{"instruction": "a", "output": "\\ud800"}]', "row 1: `output` holds a lone surrogate"),
        ('[{"id": 1, "instruction": "a", "output": "b"}, {"id": 1, "instruction": "c", "output": "d"}]', "'1'"),
    ],
)
def test_bad_outputs_are_refused_by_file_and_row(tmp_path, text, message):
    path = tmp_path / "outputs.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_answers(path)
    assert str(path) in str(error.value)


def test_repeated_instructions_are_told_apart_and_ids_must_agree(tmp_path):
    path = tmp_path / "outputs.json"
    path.write_text(json.dumps([{"instruction": "a", "output": text} for text in ("one\r\nline", "two")]))
    first, second = read_answers(path)
    assert first.prompt_id != second.prompt_id and first.output == "one\nline"
    for name, instruction in (("a", "this?"), ("b", "that?")):
        (tmp_path / name).write_text(json.dumps([{"id": 7, "instruction": instruction, "output": "x"}]))
    with pytest.raises(UserError, match="another instruction"):
        draw_study([Comparison("x", tmp_path / "a", tmp_path / "b")], prompts=1, raters=1, ratings_per_pair=1)


# --- what raters get -------------------------------------------------------------------------------------------------


def hand_outs(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]


def test_nothing_handed_out_tells_the_models_apart(tmp_path, comparisons):
    """The texts name their models here, so each name may stand only where an answer quotes it."""
    study = export(comparisons, tmp_path, prompts=8)
    assert (tmp_path / "key.json").exists() and len(hand_outs(tmp_path)) == 8 * 3 + 1
    for path in hand_outs(tmp_path):
        text = path.read_text("utf-8")
        for name in ("optune_0.7", "optune_1.0", "random_0.7"):
            assert text.count(name) == text.count(f"SECRET-{name} says")
        assert not re.search("a_first|generator|comparison|pair_id|key.json", text.replace("Which answer", ""))
        assert not any(pair_id in text for pair_id in study.pairs)


def test_the_same_export_is_the_same_bytes_and_another_study_is_not_written_over_it(tmp_path, comparisons):
    first = export(comparisons, tmp_path / "a", prompts=4)
    before = {p.name: p.read_bytes() for p in hand_outs(tmp_path / "a")}
    assert export(comparisons, tmp_path / "a", prompts=4) == first == export(comparisons, tmp_path / "b", prompts=4)
    assert before == {p.name: p.read_bytes() for p in hand_outs(tmp_path / "b")}
    with pytest.raises(UserError, match="holds study"):
        export(comparisons, tmp_path / "a", prompts=4, seed=1)


def test_hostile_texts_cannot_leave_the_pages_data_block(tmp_path):
    a = write_outputs(tmp_path / "a.json", 0, "A", HOSTILE)
    b = write_outputs(tmp_path / "b.json", 0, "B", HOSTILE[::-1])
    study = draw_study([Comparison("x", a, b)], prompts=6, raters=1, ratings_per_pair=1)
    page, page_digest = render_page(study, "rater-1")
    block = re.search(r'<script type="application/json" id="study" data-sealed>(.*?)</script>', page, re.DOTALL)[1]
    assert block.isascii() and not set("<>&\n") & set(block)
    shown = {item["id"]: (item["question"], item["answer_1"], item["answer_2"]) for item in json.loads(block)["items"]}
    assert shown == {item.item_id: study.texts(item) for item in study.items}
    frame = page.replace(block, "@@STUDY@@").replace(page_digest, "@@PAGE_DIGEST@@")
    assert re.sub("sha256-[^']+", "@@SCRIPT_HASH@@", frame) == TEMPLATE
    assert digest(*sealed_texts(page)) == page_digest


@pytest.mark.parametrize(
    "old, new",
    [
        ("says 1.", "says 2."),
        ("Answer 1 is better", "Answer 2 is better"),
        ("as helpful as", "less helpful than"),
        ('["1", "2", "same"]', '["2", "1", "same"]'),
        (".text {", ".text { color: #fff;"),
    ],
)
def test_any_change_to_what_a_rater_reads_changes_the_page_digest(tmp_path, old, new):
    paths = [write_outputs(tmp_path / f"{name}.json", 2, name) for name in "ab"]
    study = draw_study([Comparison("x", *paths)], prompts=2, raters=1, ratings_per_pair=1)
    page, page_digest = render_page(study, "rater-1")
    assert old in page
    assert digest(*sealed_texts(page.replace(old, new, 1))) != page_digest


@settings(max_examples=60, deadline=None)
@given(st.text() | st.sampled_from(HOSTILE) | st.builds(str.__add__, st.sampled_from("'=+-@\t\r\n ＝"), st.text()))
def test_a_guarded_cell_is_no_formula_and_reads_back_exactly(text):
    cell = guard(text)
    assert unguard(cell) == text
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert not cell.startswith(("\t", "\r", "\n"))


def test_label_studio_tasks_match_the_interface(small):
    folder, study = small
    config = ElementTree.parse(folder / "label_studio" / "config.xml").getroot()
    fields = {tag.get("value").removeprefix("$") for tag in config.iter("Text")}
    assert {choice.get("alias") for choice in config.iter("Choice")} == {"1", "2", "same"}
    for rater in study.raters:
        tasks = json.loads((folder / "label_studio" / f"tasks-{rater}.json").read_text())
        assert len(tasks) == 4 and all(fields <= set(task["data"]) for task in tasks)


# --- ratings back in -------------------------------------------------------------------------------------------------


def test_the_papers_study_with_one_rater_missing_one_file_twice_and_one_page_edited(tmp_path, outputs, capsys):
    """The acceptance scenario, through the command line: 400 expected, 300 accepted, the rest named."""
    folder = tmp_path / "study"
    assert main(["export", "--outputs", str(outputs), "--out", str(folder)]) == 0
    assert main(["simulate", "--study", str(folder)]) == 0
    files = sorted((folder / "simulated").iterdir())
    edited = json.loads(files[6].read_text())
    edited["page_digest"] = digest("an edited page")
    files[6].write_text(json.dumps(edited))
    again = tmp_path / "again.json"
    again.write_bytes(files[0].read_bytes())
    capsys.readouterr()
    assert main(["import", *map(str, [*files[:7], again]), "--study", str(folder)]) == 1
    output = capsys.readouterr().out
    assert "300 ratings accepted, 50 there already, 0 refused; files refused as a whole: 1." in output
    assert f"{files[6]}: was made with an altered page" in output
    assert "missing  rater-7: 50 ratings, questions 1-50" in output
    assert "missing  rater-8: 50 ratings, questions 1-50" in output
    assert main(["analyse", "--study", str(folder)]) == 0
    output = capsys.readouterr().out
    assert output.startswith("SIMULATED RATERS") and "300 of 400 ratings" in output and "Table 4" in output
    assert json.loads((folder / "analysis.json").read_text())["simulated"] is True


def test_foreign_and_damaged_files_are_refused_as_a_whole(tmp_path, small):
    folder, study = small
    files = {
        "other-study.json": {"study": "0123456789ab"},
        "other-rater.json": {"rater": "rater-9"},
        "other-page.json": {"page_digest": study.page_digests["rater-2"]},
        "no-digest.json": {"page_digest": None},
        "no-format.json": {"format": "something"},
        "no-rows.json": {"ratings": "none"},
    }
    paths = [ratings_file(tmp_path / name, study, "rater-1", changes=change) for name, change in files.items()]
    (tmp_path / "torn.json").write_text('{"format": "human-')
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "list.json").write_text('[{"data": {}}]')
    paths += [tmp_path / name for name in ("torn.json", "table.csv", "list.json", "absent.json", "absent.csv")]
    report = import_ratings(folder, paths)
    assert (report.accepted, report.refused, report.files_refused) == (0, 0, len(paths))
    assert all(line.startswith(str(path)) for line, path in zip(report.refusals, paths, strict=True))


def test_bad_rows_are_refused_by_number_and_the_rest_counts(tmp_path, small):
    folder, study = small
    path = ratings_file(tmp_path / "r.json", study, "rater-1")
    content = json.loads(path.read_text())
    rows, other = content["ratings"], study.items_of("rater-2")[0]
    rows[1]["item_digest"] = "0" * 64
    rows[2]["choice"] = "3"
    rows += [{**rows[0], "choice": "2"}, {**rows[0], "item": "nonsense"}]
    rows += [{"item": other.item_id, "item_digest": study.item_digest(other), "choice": "1"}]
    path.write_text(json.dumps(content))
    report = import_ratings(folder, [path])
    assert (report.accepted, report.refused) == (2, 5)
    text = "\n".join(report.refusals)
    for part in (
        "row 2: the texts are not those",
        "row 3: the rating must be one of",
        "row 5: duplicate",
        "as '1', which stays",
        "row 6: unknown item id",
        "row 7: item",
    ):
        assert part in text
    assert report.missing == {"rater-1": [2, 3], "rater-2": [1, 2, 3, 4]}


def test_an_earlier_rating_is_never_changed(tmp_path, small):
    folder, study = small
    import_ratings(folder, [ratings_file(tmp_path / "first.json", study, "rater-1", "1")])
    before = (folder / "ratings.jsonl").read_text()
    report = import_ratings(folder, [ratings_file(tmp_path / "second.json", study, "rater-1", "2")])
    assert report.accepted == 0 and "as '1', which stays" in report.refusals[0]
    assert (folder / "ratings.jsonl").read_text() == before
    import_ratings(folder, [ratings_file(tmp_path / "third.json", study, "rater-2", "2")])
    assert (folder / "ratings.jsonl").read_text().startswith(before)


def test_a_strange_time_of_rating_does_not_damage_what_is_kept(tmp_path, small):
    folder, study = small
    path = ratings_file(tmp_path / "strange.json", study, "rater-1")
    content = json.loads(path.read_text())
    content["ratings"][0]["rated_at"] = "today\u2028\x85\ud800"
    path.write_text(json.dumps(content))
    accepted = import_ratings(folder, [path]).accepted
    assert accepted and len(read_ratings(folder, study)) == accepted


def test_a_partial_file_can_be_completed_later(tmp_path, small):
    folder, study = small
    full = ratings_file(tmp_path / "full.json", study, "rater-1")
    content = json.loads(full.read_text())
    part = tmp_path / "part.json"
    part.write_text(json.dumps(content | {"ratings": content["ratings"][:1]}))
    assert import_ratings(folder, [part]).missing["rater-1"] == [2, 3, 4]
    report = import_ratings(folder, [full])
    assert (report.accepted, report.known, report.refused) == (3, 1, 0) and "rater-1" not in report.missing


@pytest.mark.parametrize("kind", ["page", "csv", "label studio"])
def test_ratings_that_are_merely_missing_are_told_and_are_no_failure(tmp_path, small, capsys, kind):
    """Whatever leaves a question unrated in a file; the same file completed later is no failure either."""
    folder, study = small
    path = unrated_file(tmp_path, folder, study, kind)
    for _ in range(2):
        assert main(["import", str(path), "--study", str(folder)]) == 0
        told = capsys.readouterr()
        assert "0 refused" in told.out and "missing  rater-1: 3 ratings" in told.out and told.err == ""
        assert "7 ratings are still missing." in told.out
    assert len(read_ratings(folder, study)) == 1


def unrated_file(tmp_path, folder, study, kind):
    """A file of rater-1 in which the first question alone is rated."""
    if kind == "page":
        path = ratings_file(tmp_path / "r.json", study, "rater-1")
        content = json.loads(path.read_text())
        for row, choice in zip(content["ratings"][1:], (None, ""), strict=False):
            row["choice"] = choice
        path.write_text(json.dumps(content | {"ratings": content["ratings"][:3]}))
    elif kind == "csv":
        path = folder / "csv" / "rater-1.csv"
        first, second, *rest = path.read_bytes().split(b"\r\n")
        path.write_bytes(b"\r\n".join([first, second.removesuffix(b'""') + b'"1"', *rest]))
    else:
        tasks = json.loads((folder / "label_studio" / "tasks-rater-1.json").read_text())
        choices = [["1"], [], None]
        for task, choice in zip(tasks, choices, strict=False):
            task["annotations"] = [{"result": [{"from_name": "rating", "value": {"choices": choice}}]}]
        tasks[3]["annotations"] = []
        path = tmp_path / "export.json"
        path.write_text(json.dumps(tasks))
    return path


def test_simulated_and_real_ratings_never_mix(tmp_path, small):
    folder, study = small
    real, simulated = ratings_file(tmp_path / "r.json", study, "rater-1"), simulate(study, tmp_path)
    import_ratings(folder, [real])
    report = import_ratings(folder, simulated)
    assert report.files_refused == 2 and "simulated ratings" in report.refusals[0]


def test_a_filled_in_csv_comes_back_through_a_spreadsheet(tmp_path):
    """Saved again with semicolons and other line ends, the texts still hash to the same; an edited one is refused."""
    paths = [write_outputs(tmp_path / f"{name}.json", 0, name, HOSTILE) for name in "ab"]
    folder = tmp_path / "study"
    study = export([Comparison("x", *paths)], folder, prompts=6, raters=1, ratings_per_pair=1)
    csv.field_size_limit(10**6)
    with open(folder / "csv" / "rater-1.csv", encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert not any(cell.lstrip().startswith(("=", "+", "@")) for row in rows for cell in row)
    for row, choice in zip(rows, ["1", "2", "Same ", "1", "1", ""], strict=True):
        row[-1] = choice
    rows[4][3] += " edited"
    returned = tmp_path / "rater-1.csv"
    with open(returned, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows([header, *([c.replace("\n", "\r\n") for c in row] for row in rows)])
    report = import_ratings(folder, [returned])
    assert (report.accepted, report.refused) == (4, 1) and "row 5" in report.refusals[0]
    assert [r.choice for r in read_ratings(folder, study)] == ["1", "2", "same", "1"]


NUMBER = re.compile(r"\s*[+-]?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?\s*")
MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
DATE = re.compile(rf"[0-9]{{1,4}}[-/.][0-9]{{1,2}}(?:[-/.][0-9]{{1,4}})?|{MONTH}[- ]?[0-9]{{1,4}}", re.IGNORECASE)


def as_a_spreadsheet_saves(cell: str) -> str:
    """What is left of a cell that a spreadsheet takes for a number, a date or a truth value."""
    if NUMBER.fullmatch(cell):
        value = float(cell.replace(",", "."))
        return f"{value:.5G}" if len(cell) > 11 or "e" in cell.lower() else f"{value:g}"
    if DATE.fullmatch(cell) or cell.upper() in ("TRUE", "FALSE"):
        return "44986"
    return cell


def rated_in_a_spreadsheet(folder: Path, out: Path) -> list[Path]:
    """Every rater's CSV, opened, rated, and saved with empty rows at the end, as spreadsheets do."""
    paths = []
    for source in sorted((folder / "csv").glob("*.csv")):
        with open(source, encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file)
        rated = [[*map(as_a_spreadsheet_saves, row[:-1]), "1"] for row in rows]
        path = out / source.name
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([header, *rated, [""] * len(header), []])
        paths.append(path)
    return paths


NUMBERS = ["007", "1e5", "2026-01-02", "may 5", "TRUE", "3,5", "12345678901234", "-1", "+3"]


def ratings_that_come_back(tmp_path: Path, seed: int, prompts: int, raters: int, per_pair: int) -> int:
    outputs = []
    for name in "ab":
        rows = []
        for i in range(prompts):
            answer = f"{NUMBERS[(i + ord(name)) % len(NUMBERS)]}" + (f" {i}" if i >= len(NUMBERS) else "")
            rows.append({"instruction": f"question {i}", "output": answer, "generator": name, "prompt_id": f"{i:04d}"})
        outputs.append(tmp_path / f"{name}.json")
        outputs[-1].write_text(json.dumps(rows))
    folder = tmp_path / f"study-{seed}"
    export([Comparison("x", *outputs)], folder, prompts=prompts, raters=raters, ratings_per_pair=per_pair, seed=seed)
    (tmp_path / f"back-{seed}").mkdir()
    report = import_ratings(folder, rated_in_a_spreadsheet(folder, tmp_path / f"back-{seed}"))
    assert report.refused == 0 and report.files_refused == 0, report.refusals[:3]
    return report.accepted


def test_no_spreadsheet_eats_an_id_or_an_answer_and_empty_rows_are_no_ratings(tmp_path):
    assert sum(ratings_that_come_back(tmp_path, seed, 20, 4, 2) for seed in range(10)) == 10 * 40


@pytest.mark.slow
def test_forty_thousand_ratings_come_back_through_a_spreadsheet(tmp_path):
    """Eight raters and 400 ratings a study, seeds 0 to 99."""
    assert sum(ratings_that_come_back(tmp_path, seed, 100, 8, 4) for seed in range(100)) == 40_000


def test_a_table_exported_before_ids_had_a_word_in_front_still_imports(tmp_path, small):
    folder, _ = small
    with open(folder / "csv" / "rater-1.csv", encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    older = [[row[0].removeprefix("study-"), row[1], row[2].removeprefix("item-"), *row[3:6], "2"] for row in rows]
    with open(tmp_path / "rater-1.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *older])
    report = import_ratings(folder, [tmp_path / "rater-1.csv"])
    assert (report.accepted, report.refused) == (len(rows), 0)


def test_a_label_studio_export_comes_back_and_an_edited_task_is_refused(tmp_path, small):
    folder, study = small
    tasks = json.loads((folder / "label_studio" / "tasks-rater-2.json").read_text())
    for task, choice in zip(tasks, ["1", "same", "2", None], strict=True):
        result = {"from_name": "rating", "to_name": "question", "type": "choices", "value": {"choices": [choice]}}
        task["annotations"] = [{"result": [result], "created_at": "2026-01-01"}] if choice else []
    tasks[2]["data"]["answer_1"] += "!"
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    report = import_ratings(folder, [path])
    assert (report.accepted, report.refused) == (2, 1) and "row 3" in report.refusals[0]
    assert [r.choice for r in read_ratings(folder, study)] == ["1", "same"]


def test_spans_are_readable():
    assert spans([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


def test_damaged_keys_and_ratings_are_named(tmp_path, small):
    folder, study = small
    (folder / "ratings.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="line 1"):
        read_ratings(folder, study)
    key = json.loads((folder / "key.json").read_text())
    del key["items"]
    (folder / "key.json").write_text(json.dumps(key))
    with pytest.raises(UserError, match="damaged"):
        read_key(folder)
    with pytest.raises(UserError, match="no study here"):
        read_key(tmp_path / "nowhere")


# --- analysis --------------------------------------------------------------------------------------------------------


def to_counts(rows):
    """Raters x units of category numbers (None: no rating) as units x categories counts."""
    units = list(zip(*rows, strict=True))
    categories = sorted({value for unit in units for value in unit if value is not None})
    return np.array([[unit.count(category) for category in categories] for unit in units], dtype=float)


_ = None
TEXTBOOK = [
    # Krippendorff, "Computing Krippendorff's alpha-reliability": two observers, binary; four observers, gaps.
    ([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], 0.095),
    (
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
            [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
        ],
        0.743,
    ),
    # The worked example of the encyclopedia article: three coders, fifteen units, one of them unrated.
    (
        [
            [_, _, _, _, _, 3, 4, 1, 2, 1, 1, 3, 3, _, 3],
            [1, _, 2, 1, 3, 3, 4, 3, _, _, _, _, _, _, _],
            [_, _, 2, 1, 3, 4, 4, _, 2, 1, 1, 3, 3, _, 4],
        ],
        0.691,
    ),
]


@pytest.mark.parametrize(("rows", "expected"), TEXTBOOK)
def test_alpha_matches_the_textbook(rows, expected):
    assert alpha_of(alpha_terms(to_counts(rows)).sum(axis=0)) == pytest.approx(expected, abs=5e-4)


def test_alpha_matches_an_independent_package():
    krippendorff = pytest.importorskip("krippendorff", reason="pip install krippendorff to check against it")
    rng = np.random.default_rng(0)
    for _round in range(30):
        counts = rng.multinomial(4, rng.dirichlet([1, 1, 1]), size=20).astype(float)
        counts[rng.random(20) < 0.2] = (0, 1, 0)
        ours = alpha_of(alpha_terms(counts).sum(axis=0))
        theirs = krippendorff.alpha(value_counts=counts.astype(int), level_of_measurement="nominal")
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_agreement_by_hand():
    counts = np.array([[4, 0, 0], [2, 2, 0], [1, 0, 0]], dtype=float)
    agreeing, pairs = agreeing_pairs(counts)
    assert agreeing.sum() / pairs.sum() == pytest.approx((12 + 4) / 24)
    assert np.isnan(alpha_of(alpha_terms(np.array([[4.0, 0.0, 0.0]])).sum(axis=0)))


def test_intervals_resample_prompts_not_ratings():
    """Four copies of every rating of a prompt tell no more than one, and the interval knows it."""
    from eval.stats import bootstrap_mean

    wins = np.random.default_rng(1).integers(0, 2, size=80).astype(float)
    prompts = np.arange(80).astype(str)
    one = share(prompts, wins, np.ones(80), seed=0)
    four = share(np.repeat(prompts, 4), np.repeat(wins, 4), np.ones(320), seed=0)
    independent = share(np.arange(320).astype(str), np.repeat(wins, 4), np.ones(320), seed=0)
    assert (one.low, one.high) == pytest.approx((four.low, four.high))
    assert one.high - one.low > 1.8 * (independent.high - independent.low)
    reference = bootstrap_mean(wins, seed=0)
    assert (one.low, one.high) == pytest.approx((reference.low, reference.high), abs=0.02)
    assert one == share(prompts, wins, np.ones(80), seed=0), "seeded"
    alone = cluster_bootstrap(np.array(["p"]), np.ones((1, 1)), lambda sums: sums[..., 0])
    assert alone.estimate == 1 and np.isnan(alone.low)


def test_table_4_counts_what_the_raters_chose(tmp_path, comparisons):
    """Everybody prefers the first model on `full`, and calls `random` a tie: whatever side the answers stood on."""
    study = export(comparisons, tmp_path, prompts=8)
    files = []
    for rater in study.raters:
        path = ratings_file(tmp_path / f"{rater}.json", study, rater)
        content = json.loads(path.read_text())
        for row, item in zip(content["ratings"], study.items_of(rater), strict=True):
            full = study.pairs[item.pair_id].comparison == "full"
            row["choice"] = ("1" if item.a_first else "2") if full else "same"
        path.write_text(json.dumps(content))
        files.append(path)
    assert "Complete." in list(import_ratings(tmp_path, files).lines())
    results = analyse(tmp_path, study)
    assert {o: results["comparisons"]["full"][o]["estimate"] for o in ("win", "lose", "tie")} == {
        "win": 1,
        "lose": 0,
        "tie": 0,
    }
    assert results["comparisons"]["random"]["tie"]["estimate"] == 1
    assert results["all"]["krippendorff_alpha"]["estimate"] == 1 == results["all"]["raw_agreement"]["estimate"]
    assert np.isnan(results["comparisons"]["full"]["krippendorff_alpha"]["estimate"]), "one category: undefined"
    assert results["comparisons"]["full"]["first_answer_chosen"]["estimate"] == 0.5
    assert results["ratings"] == results["ratings_expected"] == 64 and results["simulated"] is False
    assert "SIMULATED" not in format_results(results) and "undefined" in format_results(results)


def test_agreement_with_a_judge(tmp_path, small):
    """Rater 1 always prefers answer 1 and rater 2 answer 2, so by hand: agreement with `win` on every second rating."""
    folder, study = small
    import_ratings(folder, [ratings_file(tmp_path / f"{n}.json", study, f"rater-{n}", str(n)) for n in (1, 2)])
    pairs = list(study.pairs.values())
    outcomes = {pair.pair_id: [] for pair in pairs}
    for item in study.items:
        outcomes[item.pair_id].append(study.outcome(item, item.rater[-1]))
    verdicts = ["win", "lose", "tie", "unparsed"]
    path = tmp_path / "verdicts.jsonl"
    rows = [{"prompt_id": p.prompt_id, "outcome": v} for p, v in zip(pairs[:2], verdicts[:2], strict=True)]
    rows += [{"instruction": p.question, "verdict": v} for p, v in zip(pairs[2:], verdicts[2:], strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = analyse(folder, study, {"full": path})["judge"]["full"]
    agreeing = sum(outcomes[p.pair_id].count(v) for p, v in zip(pairs[:2], verdicts[:2], strict=True))
    assert judge["pairs"] == 3 and judge["pairs_without_verdict"] == 1
    assert judge["ratings"]["estimate"] == pytest.approx(agreeing / 6)
    assert judge["decided_ratings"]["estimate"] == pytest.approx(agreeing / 4)
    with pytest.raises(UserError, match="not a comparison"):
        analyse(folder, study, {"other": path})


@pytest.mark.parametrize("text", ["{}\n", "nonsense\n", '{"prompt_id": 1, "verdict": "win"}\n' * 2])
def test_bad_verdicts_are_refused_by_line(tmp_path, text):
    path = tmp_path / "verdicts.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=r"(?:line|row) [12]"):
        read_verdicts(path)


def test_simulated_raters_are_reproducible_and_say_so(tmp_path, small):
    _folder, study = small
    first, again = simulate(study, tmp_path / "a"), simulate(study, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    assert all(json.loads(p.read_text())["simulated"] is True for p in first)


def test_an_edit_of_the_page_changes_the_studys_id_and_nothing_that_is_drawn_or_simulated(tmp_path, comparisons):
    before, after = (draw_study(comparisons, prompts=8, raters=4, version=page) for page in ("page", "page, edited"))
    assert before.study_id != after.study_id
    assert (before.pairs, before.items) == (after.pairs, after.items)
    ratings = []
    for study in (before, after):
        files = simulate(study, tmp_path / study.study_id)
        ratings.append([json.loads(path.read_text())["ratings"] for path in files])
    assert ratings[0] == ratings[1]


def test_errors_are_one_sentence_and_exit_2(tmp_path, capsys):
    assert main(["analyse", "--study", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error and error.count("\n") == 1


def test_the_page_template_stands_alone():
    text = Path(__import__("eval.human_study.page", fromlist=["x"]).__file__).with_name("page.html").read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|src=|@import|url\(|innerHTML|insertAdjacent|document\.write|eval\(", text)
