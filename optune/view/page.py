"""A run, or two beside each other, as one HTML page that loads nothing and can be sent to anybody.

The page is a frame, a style, a script and one block of data. All texts of people and models are in that block, as JSON
without a character that HTML could read as markup, and reach the screen as text nodes only. A content security policy
allows this style and this script, by their hashes, and nothing else: no network, and no code in a text could run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from optune.types import UserError
from optune.utils.files import write_text
from optune.view.histories import EXTREMES, Shown, as_json, shown_prompts
from optune.view.run_files import RunFiles
from optune.view.sections import checked_sections, held_out_section
from optune.view.statistics import Trajectories, bin_edges, iteration_rows

LARGEST = 20_000_000  # bytes of a page
SAYS_NOTHING = "run"  # a folder's name
HERE = Path(__file__).parent


def write_page(
    run_dirs: Sequence[str | Path], path: str | Path, extra: Sequence[Any] = (), largest: int = LARGEST
) -> dict[str, int]:
    """Write the page of one run, or of two, to `path`; with `extra` sections (see `sections.py`) in front.

    Returns the page's `bytes`, and how many `prompts` are shown of how many in all (`of`). Raises UserError for what is
    no run, for other than one or two, and where `largest` bytes do not hold even the extremes.
    """
    if not 1 <= len(run_dirs) <= 2:
        raise UserError(f"A page shows one run or two, not {len(run_dirs)}.")
    runs = [RunFiles.read(run_dir) for run_dir in run_dirs]
    ways = [Trajectories(run) for run in runs]
    edges = bin_edges(runs)
    names = names_of(runs)
    head = {
        "made": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "edges": edges.tolist(),
        "runs": [_run(*one, edges) for one in zip(runs, ways, names, strict=True)],
        "extremes": EXTREMES,
        "sections": _sections(runs, names, extra),
    }
    frame = _frame(", ".join(names))
    room = largest - len(frame.encode()) - len(as_json(head).encode()) - 200  # what is said of the sample
    shown = shown_prompts(runs, ways, max(room, 0))
    page = frame.replace("@@DATA@@", _data(head, shown), 1)
    size = len(page.encode())
    if size > largest:
        raise UserError(f"The page would have {size:,} bytes, more than the {largest:,} allowed: allow more.")
    write_text(path, page)
    return {"bytes": size, "prompts": len(shown.prompts), "of": shown.total}


def names_of(runs: Sequence[RunFiles]) -> list[str]:
    """Each run's folder's name, or what ran where that is `run`; with the folder around it where two are the same."""
    paths = [run.run_dir.resolve() for run in runs]
    names = [ran(run.config) if path.name == SAYS_NOTHING else path.name for run, path in zip(runs, paths, strict=True)]
    return names if len(set(names)) == len(names) else [f"{path.parent.name}/{path.name}" for path in paths]


def ran(config: dict[str, Any]) -> str:
    """Preset or else policy, selection and seed: `smollm2, lowest_reward at ratio 0.5, seed 0`."""
    selection = config["selection"]
    what = config.get("preset") or _last_part(config["policy"]["model"])
    return f"{what}, {selection['strategy']} at ratio {selection['ratio']:g}, seed {config['seed']}"


def _run(run: RunFiles, ways: Trajectories, name: str, edges: Any) -> dict[str, Any]:
    t, stage = max(run.entries, key=list(run.entries).index)
    return {
        "name": name,
        "finished": run.finished,
        "at": [t, run.last_iteration, stage],
        "settings": settings_of(run.config),
        "told": run.told,
        "best": run.held_out.as_json() if run.held_out else None,
        "strategy": run.config["selection"]["strategy"],
        "iterations": iteration_rows(run, ways, edges),
        "labels": run.iterations,
    }


def settings_of(config: dict[str, Any]) -> list[list[str]]:
    """What a reader asks first about a run: label and value. Folders are named by their last part."""
    reward, selection, loss, training = (config[name] for name in ("reward", "selection", "loss", "training"))
    generation = config["generation"]
    told = [
        ["policy at the start", _last_part(config["policy"]["model"])],
        ["reward", _last_part(reward["model"]) if reward.get("model") else reward["kind"]],
        ["prompts", _last_part(config["prompts"]["path"])],
        ["selection", f"{selection['strategy']}, ratio {selection['ratio']:g}"],
        ["loss", f"{loss['name']}, beta_1 {loss['beta_1']:g}, beta_2 {loss['beta_2']}"],
        ["sampling", f"{generation['n']} responses, at most {generation['max_new_tokens']} tokens"],
        ["training", f"{training['optimizer']}, learning rate {training['learning_rate']:g}"],
        ["seed", str(config["seed"])],
    ]
    if reward.get("length_penalty") is not None:
        told.append(["length penalty", f"{reward['length_penalty']:g} per character, taken off every reward here"])
    return told


def _last_part(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() or Path(name).exists() else name


def _sections(runs: Sequence[RunFiles], names: Sequence[str], extra: Sequence[Any]) -> list[dict[str, Any]]:
    titles = [""] if len(runs) == 1 else [f" of {name}" for name in names]
    held_out = [held_out_section(run, title) for run, title in zip(runs, titles, strict=True)]
    return checked_sections([*extra, *(section for section in held_out if section)])


def _frame(title: str) -> str:
    """The page without its data; what stands in the frame is ours, but for the title."""
    template, style, script = ((HERE / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    safe = "".join(c if c.isprintable() and c not in "<>&@" else " " for c in title)
    for name, value in {
        "@@STYLE_HASH@@": _hash(style),
        "@@SCRIPT_HASH@@": _hash(script),
        "@@STYLE@@": style,
        "@@SCRIPT@@": script,
        "@@TITLE@@": safe,
    }.items():
        template = template.replace(name, value, 1)
    return template


def _data(head: dict[str, Any], shown: Shown) -> str:
    said = {**head, "drawn": shown.drawn, "total": shown.total}
    return f'{as_json(said)[:-1]},"prompts":[{",".join(shown.prompts)}]}}'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
