"""The examples of docs/from_trl.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "from_trl.md").read_text("utf-8")


def test_the_python_example_runs_with_a_small_model_in_any_folder(chatml_llama, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "example.py"
    file.write_text(example.replace("path/to/sft-model", str(chatml_llama)))
    scope = {"__name__": "example"}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    assert len(scope["result"].policies) == 2 and Path(scope["result"].best).is_dir()


def test_every_option_that_the_page_names_is_one(config):
    from optune.config import RewardConfig

    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    RewardConfig(**yaml.safe_load(example)["reward"])
    RewardConfig(**yaml.safe_load(re.search(r"# several: (.*)", example)[1]))
    for section, name in re.findall(r"`(policy|reward|prompts|loss|generation|training|selection)\.(\w+)", TEXT):
        assert hasattr(getattr(config, section), name), (section, name)
