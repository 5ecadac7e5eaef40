"""Recipes: the method's settings as data, between preset and file; a recipe is never asked for by name."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from experiments.compute.arms import Arm
from experiments.compute.results import varied_by
from experiments.compute.setting import Setting
from optune.__main__ import main
from optune.config import PRESETS, RECIPES, load_config
from optune.types import UserError

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(p.stem for p in RECIPES.glob("*.yaml"))
SCALES = sorted(p.stem for p in PRESETS.glob("*.yaml"))


@pytest.mark.parametrize("preset", SCALES)
@pytest.mark.parametrize("recipe", NAMES)
def test_every_recipe_is_valid_at_every_scale(recipe, preset):
    config = load_config(preset, recipe=recipe)
    assert (config.preset, config.recipe) == (preset, recipe)


@pytest.mark.parametrize("preset", SCALES)
def test_the_paper_s_recipe_is_what_the_presets_do_without_one(preset):
    plain = load_config(preset).model_dump()
    assert "recipe" not in plain  # stage keys and results from before recipes stay what they are
    assert load_config(preset, recipe="optune").model_dump() == {**plain, "recipe": "optune"}


def test_vanilla_is_algorithm_2_with_equal_weights():
    config = load_config("tiny", recipe="vanilla")
    assert (config.selection.strategy, config.selection.ratio, config.loss.name) == ("all", 1.0, "dpo")


def test_recipes_come_after_the_preset_and_before_file_and_overrides(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "method: {selection: {ratio: 0.9}, generation: {n: 3}}\nscales: {nano: {generation: {n: 4}}, tiny: {seed: 7}}\n"
    )
    assert load_config("nano", recipe=str(recipe)).generation.n == 4  # the scale's own value comes last
    assert load_config("nano", recipe=str(recipe)).seed == 0
    assert load_config("tiny", recipe=str(recipe)).generation.n == 3
    own = tmp_path / "own.yaml"
    own.write_text(f"preset: nano\nrecipe: {recipe}\npairs: {{view: all}}\nselection: {{ratio: 0.8}}\n")
    config = load_config(file=own)
    assert (config.recipe, config.selection.ratio, config.generation.n) == (str(recipe), 0.8, 4)
    assert load_config(file=own, overrides=["selection.ratio=0.7"]).selection.ratio == 0.7
    given = load_config(file=own, recipe="optune")
    assert (given.recipe, given.pairs.view, given.generation.n) == ("optune", "all", 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("selection: {ratio: 0.5}\n", "a recipe has `method` and `scales`"),
        ("method: 3\n", "a recipe has `method` and `scales`"),
        ("method: {selection: {ration: 0.5}}\n", "selection.ration is not an option"),
        ("scales: {huge: {}}\n", "Unknown preset 'huge'"),
        ("- a\n", "a configuration is a mapping"),
    ],
)
def test_a_bad_recipe_is_told_in_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=sentence):
        load_config("nano", recipe=str(path))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_circle_of_recipes_is_told_with_its_files(tmp_path, count):
    paths = [tmp_path / f"recipe-{i}.yaml" for i in range(count)]
    for path, base in zip(paths, [*paths[1:], paths[0]], strict=True):
        path.write_text(f"base: {base}\n")
    named = " -> ".join(map(str, [*paths, paths[0]]))
    with pytest.raises(UserError, match=f"^{re.escape(named)}: a circle of `base`"):
        load_config("nano", recipe=str(paths[0]))


def test_an_unknown_recipe_names_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"Unknown recipe 'optun'; known: .*optune.*vanilla"):
        load_config("nano", recipe="optun")
    path = tmp_path / "own.yaml"
    path.write_text("preset: nano\nrecipe: [1]\n")
    with pytest.raises(UserError, match="Unknown recipe"):
        load_config(file=path)


def test_an_override_cannot_name_a_recipe_that_would_not_be_loaded(capsys):
    assert main(["run", "--preset", "nano", "recipe=vanilla"]) == 2
    assert "give it as --recipe" in capsys.readouterr().err


def test_an_arm_of_a_recipe_has_its_settings_and_may_differ_in_them():
    arm = Arm("vanilla", (("loss.name", "wdpo"),), recipe="vanilla")
    config = Setting("tiny").arm_config(arm, 1000)
    assert (config.recipe, config.selection.strategy, config.loss.name) == ("vanilla", "all", "wdpo")
    assert {"recipe", "selection.ratio", "loss.name", "pairs.view"} <= varied_by(arm, "tiny")
    assert varied_by(Arm("plain", (("seed", 1),)), "tiny") == {"seed"}


def test_no_code_asks_which_recipe_it_runs():
    for path in [*(ROOT / "optune").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]:
        text = path.read_text("utf-8")
        assert not re.search(r"recipe\s*(==|!=|in)\s*[\"'(\[{]", text), path
        assert not re.search(r"match\s+\S*recipe", text), path


def test_the_wheel_holds_every_preset_and_recipe():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["optune"]
    for path in PRESETS.rglob("*.yaml"):
        name = path.relative_to(ROOT / "optune")
        fitting = [p for p in patterns if fnmatch(str(name), p) and p.count("/") == str(name).count("/")]
        assert fitting, f"{name} is not packaged"
