"""The house in order: imports run one way, importing is cheap, and the loop stays one screen."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The rooms of each package, low to high: a file may import from its own room and those before it.
ROOMS = {
    "optune": [
        {"types"},
        {"utils"},
        {"store", "config", "history"},
        {"chat", "packaged_models", "selection"},
        {"prompts"},
        {"generate", "pairs", "plan", "reward"},
        {"training"},
        {"sandbox", "instructions", "loop"},
        {"finished", "view"},
        {"pipeline"},
        {"__main__", "__init__"},
    ],
    "experiments": [
        {"__init__", "oracles"},
        {"compute"},
        {"documents"},
        {"figures", "claims", "paper_checks"},
        {"paper", "beyond", "sensitivity", "rlhf_workflow", "always_on_policy", "development", "report", "robustness"},
        {"bench", "demo"},
        {"scale"},
    ],
}
PACKAGES = ("optune", "eval", "experiments")
TOP_LEVEL_MODULES = 6  # files directly in optune/, `__init__` and `__main__` among them
# What measures a policy stands beside the loop: neither knows the other.
EVAL_MAY_USE = {"types", "utils", "store", "config", "chat", "reward", "prompts", "generate"}
EVAL_MAY_USE |= {"sandbox", "instructions", "packaged_models"}  # worlds and models, by name


def modules(package: str) -> dict[str, Path]:
    """Full name -> file of every module below `package`."""
    named = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        named[name] = path
    return named


def imports(path: Path) -> set[str]:
    """Full names of what a file imports, also inside functions, but not for type checking only."""
    names = set()
    for node in _run_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that may be run: all but the blocks `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _run_nodes(node)


def module_of(name: str, known: Collection[str]) -> str | None:
    """The module that an imported name is or lies in: `optune.types.Prompt` -> `optune.types`."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def room(module: str) -> str:
    """`optune.reward.worker` -> `reward`; the package itself is `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("package", ROOMS)
def test_imports_run_one_way(package):
    rank = {name: place for place, rooms in enumerate(ROOMS[package]) for name in rooms}
    known = modules(package)
    for module, path in known.items():
        assert room(module) in rank, f"{path}: give the room {room(module)!r} a place in ROOMS"
        for imported in {module_of(name, known) for name in imports(path)} - {None, package}:
            assert rank[room(imported)] <= rank[room(module)], f"{module} imports {imported}, which comes later"


def test_no_imports_go_in_a_circle():
    """Neither from file to file, nor from folder to folder."""
    known = {name: path for package in PACKAGES for name, path in modules(package).items()}
    files = {name: {module_of(i, known) for i in imports(path)} - {None, name} for name, path in known.items()}
    folders: dict[str, set[str]] = {}
    for name, imported in files.items():
        own = folder_of(name)
        folders.setdefault(own, set()).update({folder_of(other) for other in imported} - {own})
    for graph in (files, folders):
        TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def folder_of(module: str) -> str:
    """`optune.reward.worker` -> `optune.reward`; a file directly in a package is a room of its own."""
    return ".".join(module.split(".")[:2])


def test_the_method_knows_neither_evaluation_nor_experiments():
    for module, path in modules("optune").items():
        for name in imports(path):
            assert name.split(".")[0] not in ("eval", "experiments"), f"{module} imports {name}"


def test_the_sandbox_world_needs_types_alone():
    for path in (ROOT / "optune" / "sandbox").glob("*.py"):
        for name in imports(path):
            assert not name.startswith("optune.") or name.startswith(("optune.types", "optune.sandbox")), path.name


def test_few_modules_lie_directly_in_the_package():
    assert len(list((ROOT / "optune").glob("*.py"))) <= TOP_LEVEL_MODULES


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_says_what_is_here_and_where_to_start(package):
    for path in (ROOT / package).rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert said, f"{path.relative_to(ROOT)}: one paragraph on what is here and which file to open first"


@pytest.mark.parametrize("path", sorted((ROOT / "eval").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_evaluation_stands_beside_the_loop(path):
    for name in imports(path):
        assert name != "eval", "a bare `import eval` hides the builtin"
        assert not name.startswith("experiments")
        if name.startswith("optune."):
            assert room(name) in EVAL_MAY_USE, f"{path.name} imports {name}"


def test_the_loop_fits_a_screen():
    from optune.loop.algorithm import loop

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
    from experiments.figures.registry import FIGURES

    assert sorted(figure_targets()) == sorted(FIGURES)


DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
README_LINES = 200


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_what_exists(document):
    text = document.read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in make_targets(text):
        assert target in figure_targets() or re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target}"
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"`(test_[a-z0-9_]+)`", text):
        assert f"def {name}(" in tests, f"no test {name}"
    for path in re.findall(r"`((?:optune|eval|experiments|tests|results|figures|docs)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"no file {path}"
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (document.parent / link).exists(), f"a link to {link}, which does not exist"
    for module in re.findall(r"python -m ((?:optune|eval|experiments)[\w.]*)", text):
        file = ROOT / module.replace(".", "/")
        assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), f"no module {module}"
    commands = (ROOT / "optune" / "__main__.py").read_text()
    for command in re.findall(r"python -m optune ([a-z-]+)", text):
        assert re.search(rf'add_parser\(\s*"{command}"', commands), f"no command {command}"


def make_targets(text: str) -> list[str]:
    """All targets of the `make ...` commands in code: `make aop-table1 aop-table2 SEEDS=0` has two."""
    targets = []
    for command in re.findall(r"(?:`|^)make ([^`#\n]+)", text, re.MULTILINE):
        words = command.split()
        settings = [place for place, word in enumerate(words) if "=" in word]
        targets += words[: settings[0]] if settings else words
    return targets


def test_the_front_page_is_short_and_leads_to_every_document():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= README_LINES
    for path in DOCUMENTS[1:]:
        assert f"]({path.relative_to(ROOT)})" in readme, f"README does not lead to {path.name}"


def test_the_readmes_configuration_and_python_are_valid(tmp_path, random_llama):
    from optune import load_config
    from optune.plan.report import plan

    readme = (ROOT / "README.md").read_text()
    (tmp_path / "mine.yaml").write_text(re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)[1])
    config = load_config(file=tmp_path / "mine.yaml")
    assert config.selection.ratio == 0.5 and config.loss.name == "wdpo"
    local = config.with_overrides({"policy.model": str(random_llama), "reward.model": str(random_llama)})
    assert "iteration 0 generation" in plan(local)
    imports, _, uses = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1].partition("\n\n")
    exec(imports, {})
    ast.parse(uses)


def test_no_part_of_a_document_that_a_command_writes_stands_twice():
    from experiments.documents import PLACES, written

    marks = "".join(path.read_text() for path in DOCUMENTS)
    for name in PLACES:
        assert marks.count(f"<!-- {name}: begin") == 1 and written(name)
