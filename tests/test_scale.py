"""The scaling benchmark: its tasks do what they time, and its goals are read off the rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.scale.__main__ import ARRAYS, EXPONENT, STAGES, draw, goals, growth, table
from experiments.scale.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
N = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    TASKS["prepare"](N, folder)
    return folder


def test_the_stages_measured_are_the_loops_own(folder):
    assert TASKS["score"](N, folder)["rewards"] == 2 * N
    assert TASKS["select"](N, folder)["selected"] == N // 2
    found = TASKS["pair"](N, folder)
    assert (found["pairs"], found["reused"]) == (N, N // 2)
    assert TASKS["rows"](N, folder)["rows"] == N
    assert TASKS["resume"](N, folder)["reused"]


def test_the_set_and_the_ranking_are_timed_in_turn_with_numpys(folder):
    assert TASKS["select_set"](N, folder)["beside_argpartition"] > 0
    assert TASKS["rank"](N, folder)["beside_argsort"] > 0


def test_a_task_is_a_process_that_tells_its_memory():
    command = [sys.executable, "-m", "experiments.scale.tasks", "rank", "1000", "."]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout)
    assert found["seconds"] > 0 and found["peak"] > 10**6


def rows(exponent: float) -> list[dict]:
    sizes, tasks = (10**5, 10**6), (*ARRAYS, *STAGES)
    made = [
        {"task": t, "n": n, "seconds": (n / 10**5) ** exponent, "peak": 10**8 + 5 * n} for t in tasks for n in sizes
    ]
    beside = {"select_set": {"beside_argpartition": 1.5}, "rank": {"beside_argsort": 1.5}}
    return [row | beside.get(row["task"], {}) for row in made]


def test_growth_is_the_exponent_between_the_two_largest_sizes(tmp_path):
    found = rows(2.0)
    assert {round(g["seconds_exponent"], 6) for g in growth(found)} == {2.0}
    assert {g["bytes_per_prompt"] for g in growth(found)} == {5.0}
    held = {goal["goal"]: goal["holds"] for goal in goals(found)}
    assert sum(held.values()) == 3  # those on arrays; no stage is linear
    assert all(goal["holds"] for goal in goals(rows(EXPONENT - 0.01)))
    data = {"rows": found, "growth": growth(found), "goals": goals(found), "machine": {"cpu": "A", "cores": 2}}
    assert any("n^2.00" in line for line in table(data)) and any("does not hold" in line for line in table(data))
    assert [Path(file).suffix for file in draw(data, tmp_path / "scale")] == [".pdf", ".png"]
