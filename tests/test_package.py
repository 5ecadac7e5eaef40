"""What `pip install .` gives: all of optune with its data, commands that work, and a word on what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from optune.utils.command import exit_status

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this tree, built without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in ("optune", "eval", "experiments"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(out), str(source)], check=True, cwd=source)
    return next(out.glob("optune-*.whl"))


@pytest.mark.slow
def test_the_wheel_has_every_file_of_optune_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "optune").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["-m", "optune", "--help"], "select"),
        (["-m", "optune", "select", "--rewards", "rewards.csv", "--ratio", "0.5"], "b\n"),
        (["-c", "import optune; print(optune.__file__)"], "unpacked"),
        (["-c", "from optune import *; print(load_config('paper', recipe='aop').iterations)"], "3"),
        (["-m", "optune", "plan", "--preset", "paper"], "iteration 0 generation"),
    ],
    ids=["help", "select", "import", "presets", "plan"],
)
def test_the_wheel_works_away_from_the_repository(wheel, tmp_path, command, says):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "rewards.csv").write_text("prompt_id,reward\na,1.5\nb,-0.5\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "unpacked")}
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_every_folder_of_python_files_is_a_package():
    """Folders without `__init__.py` are left out of a wheel."""
    for package in ("optune", "eval", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path.relative_to(ROOT)


def test_what_optune_imports_is_declared():
    """All but the standard library, options that say what to install, and what torch and its kin always bring."""
    import ast

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {entry.split(">")[0].split("<")[0].strip() for entry in declared}
    modules = {{"pyyaml": "yaml", "scikit-learn": "sklearn"}.get(name, name) for name in names}
    brought = {"huggingface_hub", "safetensors", "tokenizers", "threadpoolctl", "jinja2"}
    optional = {"vllm", "ray", "deepspeed"}
    allowed = modules | brought | optional | set(sys.stdlib_module_names) | {"optune"}
    for path in (ROOT / "optune").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported = {node.module.split(".")[0]}
            else:
                continue
            assert imported <= allowed, f"{path.relative_to(ROOT)} imports {imported - allowed}"


def test_a_package_that_is_missing_is_named_with_what_to_do(capsys):
    def needs_pandas():
        raise ModuleNotFoundError("No module named 'pandas.api'", name="pandas.api")

    assert exit_status(needs_pandas) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: The package 'pandas' is not installed") and told.count("\n") == 1
    assert "pip install ." in told and "Traceback" not in told


def test_a_module_of_ours_that_is_missing_is_a_bug_and_is_shown_as_one():
    def needs_a_module_of_ours():
        raise ModuleNotFoundError("No module named 'optune.gone'", name="optune.gone")

    with pytest.raises(ModuleNotFoundError):
        exit_status(needs_a_module_of_ours)
