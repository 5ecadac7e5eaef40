"""`make demo` on a small random model in the place of the real one: what it measures, keeps and prints."""

from __future__ import annotations

import pytest

from optune.prompts.files import write_prompts
from optune.utils.files import read_json


@pytest.fixture
def demo(chatml_llama, tmp_path, monkeypatch):
    """The demo's module, its model and sizes made small."""
    from experiments import demo
    from optune.instructions.prompts import prompts

    write_prompts(tmp_path / "prompts.parquet", prompts("train", 8))
    small = {
        "policy.model": str(chatml_llama),
        "evaluation.baseline": str(chatml_llama),
        "prompts.path": str(tmp_path / "prompts.parquet"),
        "prompts.max_tokens": 512,
        "generation.max_new_tokens": 16,
        "evaluation.max_new_tokens": 16,
        "threads": 1,
    }
    monkeypatch.setattr(demo, "SETTINGS", demo.SETTINGS | small)
    monkeypatch.setattr(demo, "HELD_OUT", 6)
    monkeypatch.setattr("optune.instructions.parts.reward_model.build", None)  # the demo's reward needs no model
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "demo")
    return demo


def test_the_demo_shows_held_out_answers_before_and_after_and_what_was_regenerated(demo, capsys):
    demo.demo()
    printed = capsys.readouterr().out
    found = read_json(demo.FOLDER / "demo.json")
    assert [row["iteration"] for row in found["iterations"]] == [None, 0, 1, 2]
    assert [row.get("prompts") for row in found["iterations"]] == [None, 8, 4, 4]
    for row in found["regenerated"]:
        assert (row["regenerated"], row["kept"]) == (4, 4)
        assert row["reward_regenerated"] <= row["reward_kept"], "the lowest rewards are sampled again"
    saved = found["saved"]
    assert saved["sampled"] == sum(row["tokens"] for row in found["iterations"][2:])
    assert saved["at_ratio_1"] == pytest.approx(2 * saved["sampled"]) and saved["share"] == pytest.approx(0.5)
    gold = [row["after"]["gold"] - row["before"]["gold"] for row in found["held_out"]]
    assert len(gold) == 6 and found["gain"]["estimate"] == pytest.approx(sum(gold) / 6)
    assert found["gain"]["low"] <= found["gain"]["estimate"] <= found["gain"]["high"]
    page = (demo.FOLDER / "demo.html").read_text()
    for title in ("Held-out gold, 1 to 10", "Which prompts were regenerated", "Held-out prompts, before and after"):
        assert title in page
    assert "held-out prompts, drawn at random" in printed and "ratio 1 takes about" in printed
    assert all(character.isprintable() or character == "\n" for character in printed)


def test_the_demos_reward_asks_for_the_constraints_for_the_topic_and_for_no_repetition():
    from experiments.demo import checked_by_rule

    prompt = "Write a few words for a child about surfing. The last word must be 'heart'."
    repeating = "Surfing is fun, surfing is fun, surfing is fun, and surfing warms the heart."
    answers = ["Surfing warms the heart.", "It warms the heart.", "Surfing warms.", repeating, ""]
    assert checked_by_rule([prompt] * 5, answers) == [1.0, 0.5, 0.0, 0.5, 0.0]


def test_a_second_demo_takes_everything_from_the_first(demo, capsys, monkeypatch):
    from experiments.compute import measure
    from optune.generate import hf

    demo.demo()
    first = capsys.readouterr().out
    monkeypatch.setattr(hf, "sample", None)
    monkeypatch.setattr(measure, "answer_prompts", None)
    demo.demo()
    assert capsys.readouterr().out == first
