"""The tables of docs/speed.md, as `make bench` writes them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from experiments.bench import time_to_quality
from experiments.bench.rows import Row, goal_text, number, ratio_text
from experiments.compute.machine import machine_text
from experiments.compute.results import ROOT
from optune.utils.files import read_json

RESULTS = ROOT / "results" / "bench"
HEAD = ("| measure | against | ours | theirs | ratio [lowest, highest] | goal | met |", "|---|---|---|---|---|---|---|")


def table(record: dict[str, Any]) -> str:
    """One machine's result file as Markdown: a table for every model measured, then reasons and settings."""
    machine = record["machine"]
    memory, gpu = f"{machine['memory_gib']} GiB", machine["accelerator"]
    lines = [f"{machine_text(machine)}, {memory}{f', {gpu}' if gpu else ''}; {versions(record)}."]
    for name, model in record["models"].items():
        rows = list(chain.from_iterable(measure["rows"] for measure in model["measures"].values()))
        facts = model["facts"]
        lines += [
            "",
            f"Model `{name}` ({facts['parameters'] / 1e6:.1f}M parameters, {facts['prompts']} prompts, "
            f"{facts['responses_per_prompt']} responses each of at most {facts['max_new_tokens']} tokens):",
            "",
            *HEAD,
            *map(line, rows),
            *missed(rows),
        ]
    return "\n".join(lines)


def line(one: Row) -> str:
    """A row of the table."""
    cells = [one["what"], "" if one["peer"] == "none" else one["peer"]]
    cells += [f"{number(one[side]['median'])} {one['unit']}" if one[side] else "" for side in ("ours", "theirs")]
    cells += [ratio_text(one) if one["ratio"] else "", "" if one["goal"] is None else goal_text(one)]
    cells.append({None: "" if one["goal"] is None else "not measured", True: "yes", False: "**no**"}[one["met"]])
    return "| " + " | ".join(cells) + " |"


def missed(rows: list[Row]) -> list[str]:
    """Why a goal is not met, or a row not measured; nothing where all are."""
    asked = [one for one in rows if one["why"] and (one["met"] is False or one["ratio"] is None)]
    reasons = [f"- {one['what']} against {one['peer']}: {one['why']}" for one in asked]
    return ["", "Not met, and why:", "", *dict.fromkeys(reasons)] if reasons else []


def versions(record: dict[str, Any]) -> str:
    """The packages that were measured."""
    return ", ".join(f"{name} {version}" for name, version in record["packages"].items())


def committed() -> list[Path]:
    """The result files that docs/speed.md shows."""
    return sorted(path for path in RESULTS.glob("*.json") if not path.name.startswith("scale-"))  # bench-scale's


def whole() -> str:
    """What should stand in docs/speed.md: a table per machine, and what follows from recorded results alone."""
    return "\n\n".join([*(table(read_json(path)) for path in committed()), to_quality()])


def to_quality() -> str:
    """The table of time to ratio 1's final quality: no machine's, but of the report seeds' committed results."""
    files = {preset: time_to_quality.file_of(preset) for preset in time_to_quality.PRESETS}
    found = {preset: read_json(path)["rows"] for preset, path in files.items()}
    named = [{**one, "what": f"`{preset}`: {one['what']}"} for preset, rows in found.items() for one in rows]
    text = f"From the committed results of the report seeds (`{time_to_quality.COMMAND}`):"
    return "\n".join([text, "", *HEAD, *map(line, named), *missed(named)])
