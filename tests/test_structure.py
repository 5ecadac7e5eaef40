"""The house in order: imports run one way, importing is cheap, and the loop stays one screen."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module may import from its own layer and those before it.
LAYERS = [
    {"types", "quiet"},
    {"registry", "artefacts", "command", "threads"},
    {"config", "reply_log"},
    {
        "prompts",
        "history",
        "ranking",
        "selection",
        "further_strategies",
        "rewards_file",
        "pairs",
        "offline_pairs",
        "preference_rows",
        "losses",
        "generate",
        "reward",
        "checkpoints",
        "chat_client",
        "chat_batch",
        "chat_endpoint",
        "prompt_writer",
        "prompt_diversity",
        "synthetic_prompts",
        "sandbox_writer",
        "ledger",
        "cost_model",
        "measured_cost",
        "writer_cost",
        "plan_nodes",
        "plan_shares",
        "reporting",
        "export",
        "hub",
        "clean_runs",
        "progress",
        "sandbox",
        "sandbox_mixes",
    },
    {"batching", "launch", "processes", "reference", "weighted_trainer"},
    {"pair_scoring"},
    {"grouped_trainer"},
    {"trainer", "sft", "reward_training", "learners", "policy_gradient"},
    {"pairwise_preference", "parts", "answering", "manifest"},
    {"train_worker", "side_samples"},
    {"stages", "sandbox_models"},
    {"sandbox_reward_models"},
    {"run", "sandbox_paths", "audit", "plan"},
    {"__main__", "__init__"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
EVAL_MAY_USE = {
    "types",
    "command",
    "config",
    "registry",
    "artefacts",
    "chat_client",
    "chat_batch",
    "chat_endpoint",
    "reply_log",
    "generate",
    "checkpoints",
    "sandbox",
    "sandbox_mixes",
    "sandbox_paths",
    "prompts",
    "reward",
    "quiet",
}


def imports(path: Path) -> set[str]:
    """Full names of what a file imports, also inside functions, but not for type checking only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(name: str) -> str:
    """`optune.reward.gold.Gold` -> `reward`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", sorted((ROOT / "optune").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_inside_the_package_run_one_way(path):
    own = path.relative_to(ROOT / "optune").parts[0].removesuffix(".py")
    assert own in RANK, f"give {own} a layer"
    for name in imports(path):
        assert name.split(".")[0] not in ("eval", "experiments"), f"{path.name} imports {name}"
        if name.startswith("optune."):
            module = top(name)
            assert RANK.get(module, 0) <= RANK[own], f"{path.name} imports {name}, which comes later"
            if own == "sandbox":
                assert module in ("sandbox", "types"), f"the sandbox imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "eval").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_evaluation_stands_beside_the_loop(path):
    for name in imports(path):
        assert name != "eval", "a bare `import eval` hides the builtin"
        assert not name.startswith("experiments")
        if name.startswith("optune."):
            assert top(name) in EVAL_MAY_USE, f"{path.name} imports {name}"


def test_the_loop_fits_a_screen():
    from optune.run import loop

    assert len(inspect.getsource(loop).splitlines()) <= 40


def test_importing_the_public_interface_does_not_import_torch():
    code = "import sys; from optune import select_prompts, make_pairs, RunConfig; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_public_names_are_there():
    import optune

    for name in optune.__all__:
        assert callable(getattr(optune, name))


def figure_targets() -> list[str]:
    """The targets that one rule makes: every figure and table."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    return next(line for line in lines if line.startswith("FIGURES :=")).split()[2:]


def test_no_make_target_lacks_its_line_of_help():
    lines = (ROOT / "Makefile").read_text().splitlines()
    phony = next(line for line in lines if line.startswith(".PHONY:")).split()[1:]
    helped = {line.split(":")[0] for line in lines if ": " in line and "  ## " in line}
    assert set(phony) <= helped | {"$(FIGURES)"}, set(phony) - helped
    assert "$(FIGURES): $(READY)" in lines


def test_every_figure_and_table_is_a_make_target():
    from experiments.figures import FIGURES

    assert sorted(figure_targets()) == sorted(FIGURES)


def test_readme_and_contributing_name_only_what_exists():
    makefile = (ROOT / "Makefile").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("*.py"))
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        for target in re.findall(r"(?:`|^)make ([a-z0-9-]+)", text, re.MULTILINE):
            known = target in figure_targets() or re.search(rf"^{target}:", makefile, re.MULTILINE)
            assert known, f"{document}: there is no target {target}"
        for name in re.findall(r"`(test_[a-z0-9_]+)`", text):
            assert f"def {name}(" in tests, f"{document}: there is no test {name}"
        for path in re.findall(r"[`(]((?:optune|eval|experiments|tests|results|figures)/[\w./-]*)[`)]", text):
            assert (ROOT / path).exists(), f"{document}: there is no {path}"
        for module in re.findall(r"python -m ((?:optune|eval|experiments)[\w.]*)", text):
            file = ROOT / module.replace(".", "/")
            assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), (
                f"{document}: no module {module}"
            )
