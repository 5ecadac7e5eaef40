"""`python -m optune push RUN_DIR`: a run's final policy and preference data to the hub, or to a folder.

Nothing is uploaded unless told so: first every file is named with its size. Repositories are private unless `public`.
The token is huggingface_hub's own (its login, or HF_TOKEN); it is neither read nor shown here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from optune.types import UserError
from optune.utils.files import read_object

CARD = "README.md"


@dataclass(frozen=True)
class Upload:
    """One repository: its name, what kind it is, and its files by their paths there."""

    name: str
    kind: str
    files: dict[str, Path]


def push(
    run_dir: Path,
    policy: str | None = None,
    pairs: str | None = None,
    to: Path | None = None,
    public: bool = False,
    yes: bool = False,
) -> None:
    """Upload policy and pairs to the repositories of these names; with `to` into folders of these names instead.

    Without `yes` and without `to` only names what would go. Raises UserError.
    """
    if not (policy or pairs):
        raise UserError("push: say what goes where: --policy NAME, --pairs NAME, or both.")
    with tempfile.TemporaryDirectory(prefix="optune-push-") as scratch:
        uploads = [_policy(run_dir, policy)] if policy else []
        uploads += [_pairs(run_dir, pairs, Path(scratch))] if pairs else []
        for upload in uploads:
            print(f"{upload.kind} {upload.name} ({'public' if public else 'private'}):")
            for name, path in sorted(upload.files.items()):
                print(f"{path.stat().st_size / 1e6:12,.3f} MB  {name}")
        if to:
            for upload in uploads:
                print(f"Written to {_copy(upload, to)}; nothing was uploaded.")
        elif yes:
            for upload in uploads:
                print(f"Uploaded to {_send(upload, public)}")
        else:
            print("Nothing was uploaded: add --yes to do it, or --to DIR to write these very files to a folder.")


def _policy(run_dir: Path, name: str) -> Upload:
    """The run's exported policy with its model card."""
    folder = run_dir / "policy"
    if not (folder / CARD).is_file():
        raise UserError(f"{folder}: there is no finished policy with its card; let the run finish first.")
    return Upload(name, "model", {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()})


def _pairs(run_dir: Path, name: str, scratch: Path) -> Upload:
    """The pairs of every iteration, a file each, and a card."""
    manifest = read_object(run_dir / "manifest.json", "config", "stages")
    files = {
        f"data/iteration-{entry['iteration']}.parquet": Path(entry["path"]) / "pairs.parquet"
        for entry in manifest["stages"]
        if entry["stage"] == "pairs"
    }
    absent = [path for path in files.values() if not path.is_file()]
    if not files or absent:
        raise UserError(f"{absent[0] if absent else run_dir}: there are no pairs; let the run finish first.")
    rows = {name: pq.read_metadata(path).num_rows for name, path in files.items()}
    (scratch / CARD).write_text(dataset_card(manifest["config"], rows), encoding="utf-8")
    return Upload(name, "dataset", {CARD: scratch / CARD, **files})


def dataset_card(config: dict[str, Any], rows: dict[str, int]) -> str:
    """A card in the hub's form: whose pairs these are, what a row holds, and how many rows each iteration has."""
    from huggingface_hub import DatasetCardData

    from optune.finished.export import public_name

    data = DatasetCardData(
        task_categories=["text-generation"],
        tags=["optune", "dpo", "preference"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    )
    reward = config["reward"].get("model") or config["reward"]["kind"]
    lines = [
        f"---\n{data.to_yaml()}\n---",
        "# Preference pairs of an OPTune run",
        f"Responses sampled by the policies of a run that starts from {public_name(config['policy']['model'])}, ranked "
        f"by the reward model {public_name(reward)}; prompts of {public_name(config['prompts']['path'])}, whose terms "
        "go with them. What ranks is a reward model, not people.",
        "A row is `prompt`, `chosen`, `rejected`, `score_chosen`, `score_rejected`, and of either side the sampled "
        "token ids, the iteration that sampled them and their log-probability. A reused pair stands in the file of "
        "every iteration that trained on it.",
        "| file | pairs |\n| --- | --- |\n" + "\n".join(f"| {name} | {count} |" for name, count in rows.items()),
    ]
    return "\n\n".join(lines) + "\n"


def _copy(upload: Upload, to: Path) -> Path:
    target = to / upload.name
    if target.exists():
        raise UserError(f"{target}: is there already; give another folder.")
    _fill(target, upload)
    return target


def _fill(folder: Path, upload: Upload) -> None:
    for name, path in upload.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)


def _send(upload: Upload, public: bool) -> str:
    """Its address. Raises UserError with the hub's reason, in a line."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        made = api.create_repo(upload.name, repo_type=upload.kind, private=not public, exist_ok=True)
        with _folder(upload) as folder:
            api.upload_folder(repo_id=made.repo_id, repo_type=upload.kind, folder_path=folder)
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"The hub does not take {upload.kind} {upload.name}: {reason}") from None
    return str(made)


@contextmanager
def _folder(upload: Upload) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="optune-upload-") as folder:
        _fill(Path(folder), upload)
        yield Path(folder)
