"""Figure 1 is the loop: its steps are what the loop calls and what its stages write, complete, and legible."""

from __future__ import annotations

import inspect
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

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


def test_the_loop_calls_the_steps_in_their_order_with_what_they_read():
    """The list of steps is no second truth: a stand-in for the stages sees what the loop hands to each of them."""
    from optune.loop.algorithm import loop
    from optune.loop.steps import STEPS

    calls = watched_calls()
    assert [name for name, _ in calls] == [step.name for step in STEPS]
    for step, (_, read) in zip(STEPS, calls, strict=True):
        assert read <= set(step.reads), step.name
        assert set(step.reads) <= set(inspect.signature(loop).parameters) | set(loop.__code__.co_varnames), step.name


def test_a_run_writes_the_files_that_its_steps_name(config, tmp_path):
    from optune.loop.algorithm import run_optune
    from optune.loop.steps import STEPS

    result = run_optune(config.with_overrides({"iterations": 0, "reward.length_penalty": 0.01}), tmp_path)
    folders = {entry["stage"]: Path(entry["path"]) for entry in result.stages}
    for step in STEPS:
        if step.files:
            assert {path.name for path in folders[step.name].iterdir()} == {*step.files, "stage.json"}


def watched_calls() -> list[tuple[str, set[str]]]:
    """Name of each step of one iteration, in order, and the loop's variables that it was given, by name."""
    from optune.config import load_config
    from optune.loop.algorithm import loop
    from optune.loop.steps import STEPS

    calls: list[tuple[str, set[str]]] = []
    writes = {step.name: next(iter(step.writes), "nothing") for step in STEPS}

    class Named(SimpleNamespace):
        """Stands for a loop variable's value; `path` and `/` are of the same variable."""

        def __truediv__(self, name: str) -> Named:
            return self

    class History(Named):
        def append(self, scored: Named) -> History:
            calls.append(("history", {"history", scored.name}))
            return self

    class Stages:
        def beta_2(self, history: History) -> float:  # a number for the step `train`, made of the history
            return 1.0

        def __getattr__(self, stage: str):
            def step(t: int, *given: object) -> Named:
                calls.append((stage, {value.name for value in given if isinstance(value, Named)}))
                return Named(name=writes[stage], path="policy")

            return step

    config = load_config("nano").with_overrides({"iterations": 0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optune.loop.algorithm.History", lambda: History(name="history"))
        loop(config, Stages())
    return calls


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
