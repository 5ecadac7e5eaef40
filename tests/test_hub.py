"""What goes to the hub: named first, the very files, private, and loadable as it lies."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from optune.__main__ import main
from optune.finished.export import export_policy
from optune.utils.files import write_json


@pytest.fixture(scope="module")
def run_dir(config, random_llama, tmp_path_factory) -> Path:
    """A run's folder as far as push reads it: an exported policy, and pairs of two iterations."""
    import pyarrow as pa

    from optune.history import SCHEMA, History, write_rows
    from optune.pairs.pairing import training_rows, write_pairs

    folder = tmp_path_factory.mktemp("run")
    stages = []
    for t in (0, 1):
        rows = [
            {name: None for name in SCHEMA.names}
            | {"prompt_id": "p", "index": k, "iteration": t, "token_ids": [k + 1], "text": f"{k}", "reward": float(k)}
            for k in (0, 1)
        ]
        made = folder / "stages" / "pairs" / str(t)
        made.mkdir(parents=True)
        write_rows(folder / f"{t}.parquet", SCHEMA, [pa.Table.from_pylist(rows, schema=SCHEMA)])
        tables = training_rows(History((folder / f"{t}.parquet",)), "all", t, ["p"])
        write_pairs(made / "pairs.parquet", tables, "best_vs_worst", pa.array(["what?"]))
        stages.append({"iteration": t, "stage": "pairs", "path": str(made), "counts": {}})
    export_policy(random_llama, stages, config, folder)
    write_json(folder / "manifest.json", {"config": config.model_dump(), "stages": stages})
    return folder


def test_nothing_is_uploaded_unless_told_so(run_dir, capsys, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", None)  # it would fail
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["push", str(run_dir), "--policy", "me/policy", "--pairs", "me/pairs"]) == 0
    told = capsys.readouterr().out
    for part in ("model me/policy (private)", "model.safetensors", "data/iteration-1.parquet", "Nothing was uploaded"):
        assert part in told
    assert "hf_secret" not in told


def test_the_folders_are_what_would_be_uploaded_and_load_as_they_lie(run_dir, tmp_path, capsys):
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM

    arguments = ["push", str(run_dir), "--policy", "me/policy", "--pairs", "me/pairs", "--to", str(tmp_path)]
    assert main(arguments) == 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "me/policy").config.model_type == "llama"
    pairs = load_dataset(str(tmp_path / "me/pairs"), split="train")
    assert [row["chosen"] for row in pairs] == ["1", "1"] and {"prompt", "rejected"} <= set(pairs.column_names)
    card = (tmp_path / "me/pairs/README.md").read_text()
    assert (
        "data/iteration-1.parquet | 1" in card and str(tmp_path) not in card and "/" not in card.split("from ")[1][:12]
    )
    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_run_pushes_what_it_made_when_it_is_done(config, tmp_path, capsys):
    """`run --push-to-hub`, tried against a folder; the finished run is not made again for it."""
    mine = config.with_overrides({"prompts.limit": 8, "iterations": 0})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine.model_dump(exclude_none=True)))
    command = ["run", "--config", str(tmp_path / "mine.yaml"), "--run-dir", str(tmp_path / "run")]
    assert main([*command, "--push-to", str(tmp_path / "hub")]) == 2
    assert "--push-to-hub NAME" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert main([*command, "--push-to-hub", "me/policy", "--push-to", str(tmp_path / "hub")]) == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    assert (tmp_path / "hub/me/policy/model.safetensors").exists()
    assert (tmp_path / "hub/me/policy-pairs/data/iteration-0.parquet").exists()


def test_repositories_are_private_and_get_the_very_files(run_dir, tmp_path, monkeypatch, capsys):
    import huggingface_hub

    asked = []

    class Hub:
        """Keeps what it is given."""

        def create_repo(self, name, repo_type, private, exist_ok):
            asked.append((name, repo_type, private))
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{name}")

        def upload_folder(self, repo_id, repo_type, folder_path):
            asked.append(sorted(p.relative_to(folder_path).as_posix() for p in folder_path.rglob("*") if p.is_file()))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert main(["push", str(run_dir), "--pairs", "me/pairs", "--yes"]) == 0
    assert asked == [
        ("me/pairs", "dataset", True),
        ["README.md", "data/iteration-0.parquet", "data/iteration-1.parquet"],
    ]
    assert "huggingface.co/me/pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"), [([], "say what goes where"), (["--policy", "a/b"], "no finished policy")]
)
def test_what_cannot_be_pushed_is_told(tmp_path, capsys, arguments, sentence):
    assert main(["push", str(tmp_path), *arguments]) == 2
    assert sentence in capsys.readouterr().err
