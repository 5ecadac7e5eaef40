"""The nano pipeline as a whole, in processes of its own: it calls nobody, tells no secret, and kills change nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECRETS = {"OPENAI_API_KEY": "sk-proj-0123456789-never-to-be-seen", "HF_TOKEN": "hf_0123456789neverToBeSeen"}
ARM = """
import sys
from pathlib import Path
from experiments import compute
from experiments.arms import arm
compute.RUNS = Path(sys.argv[1])
compute.run_arm("nano", arm("wdpo", "lowest_reward", 0.5), 0, (), compute.RUNS / "computed")
"""


def guarded(tmp_path: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """A Python command under the network guard, without the variables by which libraries stay offline of themselves."""
    (tmp_path / "guard").mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("network_guard.py"), tmp_path / "guard" / "sitecustomize.py")
    offline = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "TRANSFORMERS_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in offline}
    environment |= {
        "PYTHONPATH": f"{tmp_path / 'guard'}{os.pathsep}{ROOT}",
        "NETWORK_ATTEMPTS": str(tmp_path / "attempts.txt"),
        "HF_HOME": str(tmp_path / "hub"),
        **variables,
    }
    return subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


def attempts(tmp_path: Path) -> str:
    path = tmp_path / "attempts.txt"
    return path.read_text() if path.exists() else ""


def test_the_guard_sees_a_call_that_leaves_the_machine(tmp_path):
    code = "import urllib.request; urllib.request.urlopen('http://example.org')"
    done = guarded(tmp_path, "-c", code)
    assert done.returncode != 0 and "example.org" in attempts(tmp_path)


@pytest.mark.slow
def test_the_whole_pipeline_calls_nobody_and_tells_no_secret(tmp_path):
    """Models, loop, judge and raw result; then answers, win score, study and audit from the command line."""
    steps = [guarded(tmp_path, "-c", ARM, str(tmp_path / "work"), **SECRETS)]
    work = tmp_path / "work"
    (manifest,) = work.rglob("manifest.json")
    stages = json.loads(manifest.read_text())["stages"]
    policy = next(e["path"] for e in reversed(stages) if e["stage"] == "train")
    for name, model in (("a", policy), ("b", json.loads(manifest.read_text())["config"]["policy"]["model"])):
        out = ("--out", str(work / f"{name}.json"), "--max-new-tokens", "8", "--limit", "48")
        steps.append(
            guarded(tmp_path, "-m", "eval.outputs", "--model", model, "--prompts", "sandbox:lima", *out, **SECRETS)
        )
    both = ("--outputs", str(work / "a.json"), "--baseline", str(work / "b.json"), "--allow-empty")
    judge = ("-m", "eval.win_score", "judge", *both, "--judge", "sandbox", "--run-dir", str(work / "judged"))
    study = ("-m", "eval.human_study", "export", "--comparison", "c", str(work / "a.json"), str(work / "b.json"))
    sizes = ("--prompts", "4", "--raters", "2", "--ratings-per-pair", "2", "--out", str(work / "study"))
    for command in (judge, (*study, *sizes), ("-m", "optune", "audit", str(manifest.parent))):
        steps.append(guarded(tmp_path, *command, **SECRETS))
    assert [step.returncode for step in steps] == [0] * 6, "\n".join(step.stderr[-2000:] for step in steps)
    assert attempts(tmp_path) == ""
    files = [path for path in work.rglob("*") if path.is_file()]
    assert {".html", ".json", ".jsonl", ".parquet", ".safetensors"} <= {path.suffix for path in files}
    told = [step.stdout.encode() + step.stderr.encode() for step in steps] + [path.read_bytes() for path in files]
    assert not [secret for secret in SECRETS.values() for text in told if secret.encode() in text]


@pytest.mark.slow
def test_five_kills_end_as_the_undisturbed_run_does(tmp_path):
    command = [sys.executable, "-m", "experiments.chaos", "--kills", "5", "--folder", str(tmp_path / "chaos")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("identical") >= 2 and "5 kills" in done.stdout
