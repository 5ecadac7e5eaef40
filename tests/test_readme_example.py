"""README's Python example runs as it stands, in any folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")


@pytest.fixture
def folder(random_llama, tmp_path, monkeypatch):
    """A folder outside the repository with what the example names: `mine.yaml`, as README has it, but for sizes."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    reward = LlamaConfig.from_pretrained(random_llama, num_labels=1, problem_type="regression")
    LlamaForSequenceClassification(reward).save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(random_llama).save_pretrained(tmp_path / "reward")
    words = ("one", "two", "three", "four")
    rows = [json.dumps({"prompt": f"add {a} and {b}"}) for a in words for b in words]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    config = yaml.safe_load(re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1])
    config["policy"]["model"], config["reward"]["model"] = str(random_llama), str(tmp_path / "reward")
    config["iterations"] = 1
    config["reward"]["max_length"] = 64
    config["prompts"] |= {"limit": 12, "max_tokens": 32}
    config["generation"]["max_new_tokens"] = 8
    config["training"] |= {"batch_size": 4, "micro_batch_size": 2}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_readmes_python_example_runs_in_any_folder(folder):
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    scope = {"__name__": "example"}
    exec(compile(example, "README.md", "exec"), scope)
    result = scope["result"]
    assert (folder / "runs" / "mine" / "manifest.json").is_file() and Path(result.policies[-1]).is_dir()
    assert {"text", "reward"} <= set(result.history.frame.columns)
