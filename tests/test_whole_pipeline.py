"""The pipeline as a whole, in processes of its own: it calls nobody, tells no secret, and kills change nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_network import NOT_PERMITTED

from optune.finished.audit import CARRIES_CODE

ROOT = Path(__file__).resolve().parents[1]
SECRETS = {"OPENAI_API_KEY": "sk-proj-0123456789-never-to-be-seen", "HF_TOKEN": "hf_0123456789neverToBeSeen"}
ARM = """
import sys
from pathlib import Path
from experiments.compute.arms import arm
from experiments.compute.run_arms import run_arm
from experiments.compute.setting import Setting
run_arm(Setting(sys.argv[2], runs=Path(sys.argv[1])), arm("wdpo", "lowest_reward", 0.5), 0)
"""
NATIVE_CALL = """
import ctypes, socket, struct
address = struct.pack("!2s H 4s 8x", struct.pack("=H", socket.AF_INET), 80, socket.inet_aton("192.0.2.1"))
libc = ctypes.CDLL(None)
assert libc.connect(libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0), address, len(address)) == -1
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


def alone(tmp_path: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """As `guarded`, and in a network of its own; the kernel's count of what was refused goes to `refused.txt`."""
    launcher = (str(Path(__file__).with_name("own_network.py")), str(tmp_path / "refused.txt"), sys.executable)
    done = guarded(tmp_path, *launcher, *command, **variables)
    if done.returncode == NOT_PERMITTED:
        pytest.skip("this machine permits no network namespaces")
    return done


def refused(tmp_path: Path) -> int:
    """What the kernel refused in the last process that ran `alone`."""
    return int((tmp_path / "refused.txt").read_text())


def test_a_network_of_its_own_counts_what_the_guard_cannot_see(tmp_path):
    assert alone(tmp_path, "-c", NATIVE_CALL).returncode == 0
    assert (refused(tmp_path), attempts(tmp_path)) == (1, "")
    lookup = "import ctypes; ctypes.CDLL(None).gethostbyname(b'example.org')"
    alone(tmp_path, "-c", lookup)
    assert refused(tmp_path) >= 1
    loopback = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    assert alone(tmp_path, "-c", loopback).returncode == 0 and refused(tmp_path) == 0


def run_everything(tmp_path: Path, preset: str, run: Callable[..., subprocess.CompletedProcess]) -> list[Path]:
    """Models, loop, judge and raw result; then answers, win score, study and audit. Returns every file it left."""
    work, steps = tmp_path / "work", []

    def step(*command: str) -> None:
        steps.append(run(tmp_path, *command, **SECRETS))
        assert steps[-1].returncode == 0, steps[-1].stderr[-2000:]

    step("-c", ARM, str(work), preset)
    (manifest,) = work.rglob("manifest.json")
    stages = json.loads(manifest.read_text())["stages"]
    policy = next(e["path"] for e in reversed(stages) if e["stage"] == "train")
    for name, model in (("a", policy), ("b", json.loads(manifest.read_text())["config"]["policy"]["model"])):
        out = ("--out", str(work / f"{name}.json"), "--max-new-tokens", "8", "--limit", "48")
        step("-m", "eval.outputs", "--model", model, "--prompts", "sandbox:lima", *out)
    both = ("--outputs", str(work / "a.json"), "--baseline", str(work / "b.json"), "--allow-empty")
    step("-m", "eval.win_score", "judge", *both, "--judge", "sandbox", "--run-dir", str(work / "judged"))
    study = ("-m", "eval.human_study", "export", "--comparison", "c", str(work / "a.json"), str(work / "b.json"))
    step(*study, "--prompts", "4", "--raters", "2", "--ratings-per-pair", "2", "--out", str(work / "study"))
    step("-m", "optune", "audit", str(manifest.parent))
    (work / "told.txt").write_text("".join(done.stdout + done.stderr for done in steps))
    return [path for path in work.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_the_whole_pipeline_calls_nobody_and_tells_no_secret(tmp_path):
    files = run_everything(tmp_path, "nano", guarded)
    assert attempts(tmp_path) == ""
    suffixes = {path.suffix for path in files}
    assert {".html", ".json", ".jsonl", ".parquet", ".safetensors"} <= suffixes and not CARRIES_CODE & suffixes
    assert not [path for path in files for secret in SECRETS.values() if secret.encode() in path.read_bytes()]


@pytest.mark.slow
def test_nothing_of_the_tiny_pipeline_asks_for_a_way_off_the_machine(tmp_path):
    """Its models from scratch, too; what native code and libraries' telemetry try is counted, as well."""
    counts = []

    def counted(*arguments: Any, **variables: str) -> subprocess.CompletedProcess:
        done = alone(*arguments, **variables)
        counts.append(refused(tmp_path))
        return done

    run_everything(tmp_path, "tiny", counted)
    assert (counts, attempts(tmp_path)) == ([0] * 6, "")


@pytest.mark.slow
def test_five_kills_end_as_the_undisturbed_run_does(tmp_path):
    command = [
        sys.executable,
        "-m",
        "experiments.robustness.chaos",
        "--kills",
        "5",
        "--folder",
        str(tmp_path / "chaos"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("identical") >= 2 and "5 kills" in done.stdout
