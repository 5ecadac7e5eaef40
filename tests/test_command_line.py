"""`python -m optune run` as a practitioner uses it: own models, own prompts, the sandbox, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml

from optune.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def own_config(random_llama: Path, tmp_path: Path) -> Path:
    """A YAML file that names a local policy, a local reward model and a JSONL file of plain and chat prompts."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    reward = tmp_path / "reward"
    LlamaForSequenceClassification(
        LlamaConfig.from_pretrained(random_llama, num_labels=1, problem_type="regression")
    ).save_pretrained(reward)
    AutoTokenizer.from_pretrained(random_llama).save_pretrained(reward)
    rows = [{"prompt": f"add {a} and {b}"} for a in ("one", "two", "three") for b in ("four", "five", "six")]
    rows.append(
        {"messages": [{"role": "user", "content": "sort cat dog"}, {"role": "assistant", "content": "cat dog"}]}
    )
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "iterations": 1,
        "policy": {"model": str(random_llama)},
        "reward": {"model": str(reward), "max_length": 64},
        "prompts": {"path": str(prompts), "max_tokens": 32},
        "generation": {"max_new_tokens": 8},
        "training": {"learning_rate": 1e-4, "batch_size": 4, "micro_batch_size": 2},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_ones_own_models_and_prompts_run_from_a_yaml_file(own_config, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert main(["run", "--config", str(own_config), "--run-dir", str(run_dir), "selection.ratio=0.4"]) == 0
    stages = json.loads((run_dir / "manifest.json").read_text())["stages"]
    selected = [s["counts"]["selected"] for s in stages if s["stage"] == "select"]
    assert selected == [10, 4]
    out, err = capsys.readouterr()
    assert "The policy is in" in out and "iteration 1 train" in err
    assert "Warning" not in out + err and "'loss'" not in out


def test_a_plan_from_a_measurement_of_ones_own_models_here_takes_no_table_of_gpus(own_config, monkeypatch, capsys):
    monkeypatch.setattr("optune.loop.measure.AIM", 0.1)  # seconds of a phase at work
    before = set(own_config.parent.rglob("*"))
    assert main(["plan", "--config", str(own_config), "--measure"]) == 0
    told = capsys.readouterr().out
    assert "tokens/s sampled" in told and "rewards/s" in told and "pairs/s trained" in told
    assert "A100" not in told and "this machine's CPU" in told and "(sampled)" in told
    for stage in ("generation", "rewarding", "training", "kl"):
        assert f"iteration 1 {stage}" in told
    assert set(own_config.parent.rglob("*")) == before
    assert main(["plan", "--config", str(own_config), "--measure", "training.learner=rloo"]) == 2
    assert "times the learner 'dpo'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "run"])
def test_the_command_says_where_bf16_is_emulated(own_config, monkeypatch, capsys, command):
    monkeypatch.chdir(own_config.parent)
    monkeypatch.setattr("optune.utils.precision.has_bfloat16", lambda: False)
    assert main([command, "--config", str(own_config), "generation.dtype=bfloat16", "iterations=0"]) == 0
    told = capsys.readouterr()
    assert "many times slower than float32: give generation.dtype=float32." in told.out + told.err


def test_the_nano_preset_runs_the_whole_loop_in_the_sandbox(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--preset", "nano"]) == 0
    stages = json.loads((tmp_path / "runs" / "nano-seed0" / "manifest.json").read_text())["stages"]
    assert [s["counts"]["selected"] for s in stages if s["stage"] == "select"] == [64, 32, 32]
    for name in ("response_length_mean", "truncated_share"):
        assert all(name in s["counts"] for s in stages if s["stage"] == "generate")
    assert all("kl_to_sft" in s["counts"] for s in stages if s["stage"] == "kl")
    assert all("reward_gap_mean" in s["counts"] for s in stages if s["stage"] == "pairs")


def test_a_run_makes_no_model_that_only_its_evaluation_needs_and_a_check_makes_none(
    own_config, tmp_path, monkeypatch, capsys
):
    from optune.instructions.parts import offline, reward_model

    made = []
    reward = yaml.safe_load(own_config.read_text())["reward"]["model"]
    monkeypatch.setattr(offline, "baseline", lambda *_: made.append("baseline"))
    monkeypatch.setattr(reward_model, "build", lambda *_: made.append("reward") or reward)
    monkeypatch.chdir(tmp_path)
    judge = {"name": "instructions", "model": "start"}
    evaluation = {"baseline": "instructions:baseline", "prompts": "instructions:test300", "judge": judge}
    named = ["reward.model=instructions:reward", f"evaluation={json.dumps(evaluation)}", "iterations=0"]
    assert main(["check", "--config", str(own_config), *named]) == 0
    assert "reward.model: 'instructions:reward' is made from this policy" in capsys.readouterr().out
    assert made == []
    assert main(["run", "--config", str(own_config), *named]) == 0
    assert made == ["reward"]
    assert main(["check", "--config", str(own_config), "reward.model=instructions:reward@x"]) == 2
    assert "There is no 'instructions:reward@x'" in capsys.readouterr().err


def test_a_run_is_continued_whatever_its_finished_policies_are_measured_with(own_config, tmp_path, capsys):
    command = ["run", "--config", str(own_config), "--run-dir", str(tmp_path / "run"), "iterations=0"]
    assert main(command) == 0
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert "evaluation" not in manifest["config"]
    manifest["config"]["evaluation"] = {"baseline": "earlier versions listed it"}
    path.write_text(json.dumps(manifest))
    assert main(command) == 0
    assert main([*command, "seed=5"]) == 2
    assert "another configuration (seed: 0 -> 5)" in capsys.readouterr().err


def test_a_run_whose_models_and_prompts_have_moved_is_continued_and_one_of_others_is_refused(own_config, capsys):
    tmp_path, moved = own_config.parent, own_config.parent / "moved"
    assert main(["run", "--config", str(own_config), "--run-dir", str(tmp_path / "run"), "iterations=0"]) == 0
    moved.mkdir()
    for name in ("reward", "prompts.jsonl", "run"):
        (tmp_path / name).rename(moved / name)
    names = [f"reward.model={moved / 'reward'}", f"prompts.path={moved / 'prompts.jsonl'}"]
    again = ["run", "--config", str(own_config), "--run-dir", str(moved / "run"), "iterations=0", *names]
    capsys.readouterr()
    stage = {path.stat().st_mtime_ns for path in moved.glob("run/stages/train/*/model.safetensors")}
    assert main(again) == 0
    assert stage == {path.stat().st_mtime_ns for path in moved.glob("run/stages/train/*/model.safetensors")}
    with (moved / "prompts.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "add one and one"}) + "\n")
    (moved / "prompts.jsonl").rename(moved / "others.jsonl")
    assert main([*again, f"prompts.path={moved / 'others.jsonl'}"]) == 2
    assert "another configuration (prompts.path: " in capsys.readouterr().err


def test_nothing_to_run_is_said_in_one_sentence(capsys):
    assert main(["run"]) == 2
    assert capsys.readouterr().err == "error: Say what to run: --preset tiny, or --config FILE.\n"


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_stop_cleanly_say_how_to_continue_and_continue(own_config, tmp_path, stop, status):
    command = [sys.executable, "-m", "optune", "run", "--config", str(own_config), "--run-dir", str(tmp_path / "run")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which a shell's background job does not
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listens
    )
    while not (tmp_path / "run" / "manifest.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(stop)
    _, err = process.communicate(timeout=600)  # a machine may be busy
    assert process.returncode == status
    assert "the same command continues" in err and "Traceback" not in err
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def test_the_help_of_select_has_every_strategy_with_the_line_of_its_own_docstring(capsys):
    from optune.selection.strategies import STRATEGIES

    with pytest.raises(SystemExit) as stopped:
        main(["select", "--help"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for name, strategy in STRATEGIES.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert line.split(maxsplit=1)[1] == strategy.__doc__.splitlines()[0]


def test_select_refuses_what_one_reward_per_prompt_cannot_rank(tmp_path, capsys):
    from optune.selection.from_file import BY_ONE_REWARD

    (tmp_path / "rewards.csv").write_text("prompt_id,reward\na,1.5\nb,-0.5\n")
    arguments = ["select", "--rewards", str(tmp_path / "rewards.csv"), "--ratio", "0.5", "--strategy"]
    for name in ("lowest_gap", "stalest", "learnable"):
        assert main([*arguments, name]) == 2
        told = capsys.readouterr()
        assert "more than one reward per prompt" in told.err and not told.out
    for name in BY_ONE_REWARD:
        assert main([*arguments, name]) == 0
        assert len(capsys.readouterr().out.split()) == 1
