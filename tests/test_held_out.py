"""Held-out outcomes: the best policy, the warning where reward and outcome part, and the end by patience."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from pathlib import Path

import pytest

from optune.config import ValidationConfig, parse_config
from optune.finished.audit import audit_run
from optune.finished.clean import spare
from optune.finished.export import model_card
from optune.loop.algorithm import run_optune
from optune.loop.held_out import HeldOut, told_of
from optune.loop.progress import Progress
from optune.types import UserError
from optune.utils.files import read_json
from optune.view.page import write_page
from optune.view.run_files import RunFiles

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own_model.md"
# A reward that length games, and an outcome that length spoils.
SOURCE = (
    "def longer(completions, **_):\n    return [float(len(c)) for c in completions]\n"
    "def brief(completions, **_):\n    return [-float(len(c)) for c in completions]\n"
    "def broken(completions, **_):\n    return ['no'] * len(completions)\n"
)


@pytest.fixture(scope="module")
def gamed(config, prompt_file, tmp_path_factory):
    """A finished run whose policy learns to answer at length: (configuration, directory, result, what was told)."""
    folder = tmp_path_factory.mktemp("gamed")
    (folder / "mine.py").write_text(SOURCE)
    gamed = config.with_overrides(
        {
            "iterations": 5,
            "reward": {"kind": f"{folder / 'mine.py'}:longer"},
            "prompts.limit": 32,
            "training.learning_rate": 3e-3,
            "loss.name": "dpo",
            "generation.max_new_tokens": 12,
            "validation": {
                "path": str(prompt_file),
                "limit": 16,
                "temperature": 1.0,
                "n": 4,
                "outcome": f"{folder / 'mine.py'}:brief",
                "patience": 2,
            },
        }
    )
    told = []
    result = run_optune(gamed, folder / "run", on_stage=lambda entry: told.extend(entry.get("told", [])))
    return gamed, folder / "run", result, told


def measured(result, stage, name):
    return [e["counts"][name] for e in result.stages if e["stage"] == stage]


def test_where_reward_rises_while_the_outcome_falls_it_is_told_and_the_run_ends_by_patience(gamed):
    config, run_dir, result, told = gamed
    outcomes, rewards = measured(result, "outcome", "outcome_mean"), measured(result, "validate", "reward_mean")
    best = outcomes.index(max(outcomes))
    assert rewards == pytest.approx([-value for value in outcomes]) and rewards[-1] > rewards[best]
    assert len(outcomes) == best + 3 < config.iterations + 1 and len(result.policies) == len(outcomes)
    assert "held-out reward rose" in told[-2] and "the outcome brief fell" in told[-2] and "95% interval" in told[-2]
    assert told[-1].startswith(f"The run ends after iteration {best + 2} of 5") and "(validation.patience)" in told[-1]
    assert read_json(run_dir / "manifest.json")["held_out"]["told"] == told


def test_the_best_policy_by_the_outcome_is_the_result_linked_listed_and_not_freed(gamed, tmp_path):
    _, run_dir, result, _ = gamed
    outcomes = measured(result, "outcome", "outcome_mean")
    best = outcomes.index(max(outcomes))
    assert result.best == result.policies[best] != result.policies[-1]
    assert (run_dir / "best").is_symlink() and (run_dir / "best").resolve() == Path(result.best).resolve()
    listed = read_json(run_dir / "manifest.json")["held_out"]["best"]
    assert listed == {"iteration": best, "policy": result.best, "by": "outcome", "value": outcomes[best]}
    assert Path(result.best) not in [item.path for item in spare(run_dir)]
    shutil.move(shutil.copytree(run_dir, tmp_path / "copy", symlinks=True), tmp_path / "moved")
    assert (tmp_path / "moved" / "best" / "model.safetensors").is_file()


def test_a_continued_run_makes_nothing_again_and_ends_where_it_ended(gamed):
    config, run_dir, result, told = gamed
    again, before = [], (run_dir / "manifest.json").read_text()
    continued = run_optune(config, run_dir, on_stage=lambda entry: again.append(entry))
    assert all(entry["reused"] for entry in again) and continued.policies == result.policies
    assert [s for entry in again for s in entry.get("told", [])] == told
    assert (run_dir / "manifest.json").read_text() == before
    audit = audit_run(run_dir)
    assert audit.problems == [] and audit.finished


def test_page_card_and_progress_tell_it_too(gamed, tmp_path, capsys):
    config, run_dir, result, told = gamed
    run = RunFiles.read(run_dir)
    assert run.finished and run.told == told
    write_page([run_dir], tmp_path / "view.html")
    page = (tmp_path / "view.html").read_text("utf-8")
    assert "the outcome brief fell" in page and '"outcome":-' in page.replace('"outcome": -', '"outcome":-')
    card = model_card(result.stages, config)
    assert all(sentence in card for sentence in told)
    assert "validation outcome" in card and "highest outcome" in card and "brief, which nothing was trained on" in card
    with Progress(config) as progress:
        for entry in result.stages:
            last = entry["stage"] == "outcome" and entry["iteration"] == len(result.policies) - 1
            progress.stage({**entry, **({"told": told} if last else {})})
    drawn = capsys.readouterr().err
    assert told[-1] in drawn and "iteration 0 outcome" in drawn


def test_another_outcome_samples_nothing_again(gamed, tmp_path):
    config, run_dir, _, _ = gamed
    source = tmp_path / "other.py"
    source.write_text(SOURCE)
    other = config.with_overrides({"validation.outcome": f"{source}:longer", "validation.patience": None})
    again = []
    other = other.with_overrides({"iterations": 1})
    run_optune(other, tmp_path / "run", run_dir / "stages", on_stage=lambda e: again.append((e["stage"], e["reused"])))
    assert ("outcome", False) in again and ("validate", True) in again and ("validate", False) not in again


def test_an_outcome_that_is_wrong_is_told_with_its_line_before_anything_is_sampled(gamed, tmp_path):
    config, _, _, _ = gamed
    wrong = config.with_overrides({"validation.outcome": config.validation.outcome.replace("brief", "broken")})
    with pytest.raises(UserError, match=r"mine\.py:5: the outcome 'broken' returned 'no' .* an outcome must be"):
        run_optune(wrong, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("responses.parquet"))


@pytest.fixture(scope="module")
def passed(random_llama, tmp_path_factory):
    """The page's example with functions and an EarlyStoppingCallback: (its folder, its names, what stderr had)."""
    folder = tmp_path_factory.mktemp("early")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    file = folder / "example.py"
    file.write_text(example.replace("path/to/sft-model", str(random_llama)))
    scope, told = {"__name__": "example"}, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(told):
        patch.chdir(folder)
        exec(compile(file.read_text(), str(file), "exec"), scope)
    return folder, scope, told.getvalue()


def test_transformers_early_stop_ends_a_run_by_an_outcome_that_is_a_function(passed):
    folder, scope, told = passed
    policies = scope["result"].policies
    assert measured(scope["result"], "outcome", "answers") == [4] * len(policies)
    assert len(policies) == 2 and "The run ends after iteration 1 of 4: the outcome correct has not risen" in told
    config = read_json(folder / "runs" / "early" / "manifest.json")["config"]
    assert config["validation"]["outcome"] == "python:correct" and config["validation"]["patience"] == 1


def test_a_run_by_functions_is_continued_audited_and_shown_as_any_other(passed, random_llama, monkeypatch):
    folder, scope, told = passed
    monkeypatch.chdir(folder)
    again, names = [], ("rows", "brief", "correct", "EarlyStoppingCallback")
    rows, brief, correct, stop = (scope[name] for name in names)
    given = {"prompts": rows[:12], "reward": brief, "policy": random_llama}
    options = {"iterations": 4, "generation": {"max_new_tokens": 16}}
    ends = {"validation": rows[12:], "outcome": correct, "callbacks": [stop]}
    run_optune(options, "runs/early", on_stage=again.append, **given, **ends)
    assert all(entry["reused"] for entry in again)
    audit = audit_run(Path("runs/early"))
    assert audit.problems == [] and audit.finished
    write_page([Path("runs/early")], Path("view.html"))
    card = model_card(scope["result"].stages, parse_config(read_json("runs/early/manifest.json")["config"], "test"))
    for shown in (Path("view.html").read_text("utf-8"), card):
        assert told.strip().splitlines()[-1] in shown
    assert "correct, which nothing was trained on" in card


def test_an_early_stop_or_an_outcome_needs_validation_prompts(random_llama, tmp_path):
    from transformers import EarlyStoppingCallback

    def reward(completions, **_):
        return [float(len(text)) for text in completions]

    given = {"prompts": [{"prompt": "sort cat red"}], "reward": reward, "policy": random_llama}
    with pytest.raises(UserError, match=r"validation\.path"):
        run_optune({}, tmp_path / "run", **given, outcome=reward)
    with pytest.raises(UserError, match=r"EarlyStoppingCallback .* pass validation="):
        run_optune({}, tmp_path / "run", **given, callbacks=[EarlyStoppingCallback()])
    with pytest.raises(UserError, match="early_stopping_threshold is not supported"):
        loose = EarlyStoppingCallback(early_stopping_threshold=0.1)
        run_optune({}, tmp_path / "run", **given, validation=given["prompts"], callbacks=[loose])


def entries_of(rewards, outcomes=None):
    """Lines of a manifest with these means."""
    entries = []
    for t, reward in enumerate(rewards):
        entries.append({"iteration": t, "stage": "train", "path": f"policy-{t}"})
        entries.append({"iteration": t, "stage": "validate", "path": "", "counts": {"reward_mean": reward}})
        if outcomes:
            entries.append({"iteration": t, "stage": "outcome", "path": "", "counts": {"outcome_mean": outcomes[t]}})
    return entries


def test_without_an_outcome_the_reward_decides_and_nothing_is_warned_of():
    asked = ValidationConfig(path="x", patience=1)
    held_out = HeldOut.of(entries_of([1.0, 2.0, 2.0]), asked)
    assert (held_out.best, held_out.by, held_out.stops) == (1, "reward", True)
    (sentence,) = told_of(entries_of([1.0, 2.0, 2.0]), asked, 5)
    assert "the held-out reward has not risen above 2, its value at iteration 1, for 1 iterations" in sentence
    assert told_of(entries_of([1.0, 2.0, 2.0]), asked, 2) == []  # it was the last one anyway
    assert HeldOut.of([], asked) is None and told_of([], None, 3) == []


def test_a_fall_that_may_be_chance_is_called_so(tmp_path):
    import pandas as pd

    asked = ValidationConfig(path="x", outcome="m.py:ok")
    for t, values in enumerate(([1, 1, 0, 1], [1, 0, 1, 0])):
        frame = pd.DataFrame({"prompt_id": list("abcd"), "index": 0, "outcome": values})
        frame.to_parquet(tmp_path / f"{t}.parquet")
    (sentence,) = told_of(entries_of([1.0, 2.0], [0.75, 0.5]), asked, 3, lambda t, *_: tmp_path / f"{t}.parquet")
    assert "over 4 prompts; this may be chance" in sentence


def test_new_options_are_left_out_of_a_dumped_configuration(config):
    plain = config.with_overrides({"validation": {"path": "x"}}).model_dump()
    assert set(plain["validation"]) == {"path", "split", "limit", "n", "temperature"}
    assert parse_config(plain, "test").validation.outcome is None
