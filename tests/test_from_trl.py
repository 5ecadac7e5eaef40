"""The examples of docs/from_trl.md run as they stand, and what the page says of TRL holds for the TRL that is here."""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from optune.__main__ import main

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "from_trl.md").read_text("utf-8")
RUN, WEIGHTED, STOCK = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def executed(example, name, model):
    """The names that an example of the page leaves, run as a file in the working folder."""
    file = Path(name)
    file.write_text(example.replace("path/to/sft-model", str(model)))
    scope = {"__name__": "example"}
    exec(compile(file.read_text(), str(file.resolve()), "exec"), scope)
    return scope


@pytest.fixture(scope="module")
def folder(chatml_llama, tmp_path_factory):
    """A folder outside the repository in which the page's first example ran."""
    folder = tmp_path_factory.mktemp("from-trl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = executed(RUN, "example.py", chatml_llama)["result"]
    return folder, result


def test_the_python_example_runs_with_a_small_model_in_any_folder(folder):
    where, result = folder
    assert len(result.policies) == 2 and (where / result.best).is_dir()


def test_the_example_of_the_weighted_trainer_trains_and_measures_on_held_out_pairs(chatml_llama, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = executed(WEIGHTED, "wdpo.py", chatml_llama)
    measured = [entry for entry in scope["trainer"].state.log_history if "eval_loss" in entry]
    assert len(scope["train"]) == 8 and measured and "eval_weights/mean" in measured[0]
    assert (tmp_path / "wdpo" / "policy" / "model.safetensors").is_file()


def test_a_runs_pairs_go_into_trls_own_trainer_as_the_page_says(chatml_llama, folder, monkeypatch):
    monkeypatch.chdir(folder[0])
    (command,) = re.findall(r"```\n(python -m optune push .*?)\n```", TEXT)
    assert main(shlex.split(command)[3:]) == 0
    trainer = executed(STOCK, "dpo.py", chatml_llama)["trainer"]
    assert trainer.state.global_step > 0 and Path("dpo/policy/model.safetensors").is_file()


def rows_of_table(title):
    """First cells of the rows of the table with this title, and the names of options in the second ones."""
    table = re.search(rf"\| TRL's `{title}` \|.*?\n\n", TEXT, re.DOTALL)[0]
    cells = [line.split("|")[1:3] for line in table.splitlines()[2:] if line]
    return [(re.sub(r"\(.*?\)", "", theirs), ours) for theirs, ours in cells]


@pytest.mark.parametrize("kind", ["OnlineDPOTrainer", "OnlineDPOConfig"])
def test_trl_has_every_argument_that_the_page_translates(kind):
    online = pytest.importorskip(re.search(r"`(trl\.experimental\.\w+)`", TEXT)[1])
    part = getattr(online, kind)
    known = {f.name for f in fields(part)} if kind.endswith("Config") else set(inspect.signature(part).parameters)
    names = [name for theirs, _ in rows_of_table(kind) for name in re.findall(r"`(\w+)`", theirs)]
    assert len(names) >= 5 and not set(names) - known


def test_every_option_that_the_page_names_is_one(config):
    from optune.config import RewardConfig
    from optune.loop.algorithm import run_optune

    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    RewardConfig(**yaml.safe_load(example)["reward"])
    RewardConfig(**yaml.safe_load(re.search(r"# several: (.*)", example)[1]))
    for section, name in re.findall(r"`(policy|reward|prompts|loss|generation|training|selection)\.(\w+)", TEXT):
        assert hasattr(getattr(config, section), name), (section, name)
    for _, ours in [*rows_of_table("OnlineDPOTrainer"), *rows_of_table("OnlineDPOConfig")]:
        for name in re.findall(r"`(\w+)=`", ours):
            assert name in inspect.signature(run_optune).parameters
