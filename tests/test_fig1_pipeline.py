"""Figure 1 is the loop: read from its source, complete, and legible."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data():
    from experiments.compute.setting import Setting
    from experiments.figures.registry import figure_of

    return figure_of("fig1").data(Setting("tiny"), ROOT / "results")


def numbers(lines: str) -> list[int]:
    """`4-7, 10` -> 4, 5, 6, 7, 10."""
    found = []
    for part in lines.partition(", Eq")[0].split(", "):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_the_steps_are_the_stages_in_the_loops_order_with_what_they_hand_on(data):
    from optune.loop.parts import PARTS_OF
    from optune.loop.stages import VERSIONS

    names = [step["step"] for step in data["steps"]]
    assert set(names) == {*VERSIONS, "history"} and names.index("select") < names.index("generate") < names.index(
        "pairs"
    )
    assert data["state"] == ["policy", "history"]
    by_name = {step["step"]: step for step in data["steps"]}
    assert "policy" in by_name["train"]["reads"] and by_name["pairs"]["files"] == ["pairs.parquet"]
    assert "policy" in by_name["train"]["writes"] and "selected" in by_name["generate"]["reads"]
    for name, parts in PARTS_OF.items() & {(name, PARTS_OF.get(name)) for name in by_name}:
        assert 1 <= len(by_name[name]["parts"]) <= len(parts)
        assert all(part["chosen"] in part["registered"] for part in by_name[name]["parts"])


def test_every_working_line_of_algorithm_1_belongs_to_one_step(data):
    named = [n for step in data["steps"] if step["lines"] for n in numbers(step["lines"])]
    assert sorted(named) == [*range(4, 11), *range(12, 23)]  # 2, 3, 11 and 23 open and close loops


def test_another_loop_gives_other_steps():
    from experiments.paper.loop_source import _steps, carried

    source = """
def loop(stages, history):
    for t in range(3):
        kept = stages.pairs(t, history)  # 7-8: kept first
        made = stages.train(kept, policy, stages.beta(history))
        policy = str(made.path)
        history = history.append(policy)  # 9
"""
    steps = list(_steps(source, {"pairs", "train"}))
    assert [(s["step"], s["lines"], s["note"]) for s in steps] == [
        ("pairs", "7-8", "kept first"),
        ("train", "", ""),
        ("history", "9", ""),
    ]
    assert steps[1]["reads"] == ["kept", "policy", "history"] and steps[1]["writes"] == ["made", "policy"]
    assert carried(steps) == ["history", "policy"]


def test_no_text_leaves_its_box_or_covers_another_and_equal_data_gives_equal_bytes(data, tmp_path, monkeypatch):
    from experiments.figures import style
    from experiments.paper.fig1_pipeline import CAPTIONS, draw

    assert set(CAPTIONS) == {step["step"] for step in data["steps"]}
    kept, save = [], style.save
    monkeypatch.setattr(style, "save", lambda figure, path: kept.append(figure) or save(figure, path))
    files = [draw(data, tmp_path / name) for name in ("one", "two")]
    assert [Path(f).read_bytes() for f in files[0]] == [Path(f).read_bytes() for f in files[1]]
    figure = kept[0]
    texts = [t for t in (*figure.axes[0].texts, *figure.texts) if t.get_text()]
    extents = [(t.get_text(), t.get_window_extent()) for t in texts]
    for (one, a), (other, b) in combinations(extents, 2):
        assert not a.overlaps(b), f"{one!r} covers {other!r}"
    boxes = [p.get_window_extent() for p in figure.axes[0].patches]
    for text, extent in extents:
        inside = [box for box in boxes if box.x0 <= extent.x0 <= box.x1 and box.y0 <= extent.y0 <= box.y1]
        assert all(extent.x1 <= box.x1 for box in inside), f"{text!r} leaves its box"
