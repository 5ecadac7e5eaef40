"""How far a reward model trained by one command agrees with GPT-4's preferences: the table in docs/own_model.md.

    python -m experiments.development.real_preferences ANNOTATIONS.json --pairs pairs.jsonl
    python -m optune reward --model M --data pairs.jsonl --out DIR data.held_out=0.2
    python -m experiments.development.real_preferences ANNOTATIONS.json --record DIR --name NAME

ANNOTATIONS is a file of AlpacaEval annotations: an instruction, two outputs with their generators, and the probability
that the second is preferred, from 1 (never) to 2. Such data is not ours to give away, and no part of the repository.

A reward model may agree because it reads quality, or because it tells the longer answer, or who wrote it. So its
agreement stands beside that of the longer answer, and of always taking the generator that is preferred more often.

The recorded start model is SmolLM2-135M-Instruct (`packaged:smollm2-135m-instruct`) without its layers above the sixth,
saved as a folder: the whole model would have taken more than half an hour of one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from experiments.compute.machine import machine
from experiments.compute.results import ROOT
from experiments.documents import update
from optune.pipeline.card import difference_text, share_text
from optune.pipeline.measures import agreement
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json, write_text

FOLDER = ROOT / "results" / "real_preferences"
PLACE = "real preferences"
FIELDS = ("instruction", "output_1", "output_2", "generator_1", "generator_2", "preference")


def pairs_of(annotations: Path) -> list[dict[str, Any]]:
    """A row per annotation, in their order; the scores are the probabilities that each answer is preferred."""
    rows = []
    for place, found in enumerate(read_json(annotations), start=1):
        if absent := [name for name in FIELDS if found.get(name) is None]:
            raise UserError(f"{annotations}, row {place}: no `{absent[0]}`.")
        second = found["preference"] > 1.5
        sides = ("2", "1") if second else ("1", "2")
        certainty = abs(found["preference"] - 1.5)
        rows.append(
            {
                "prompt": found["instruction"],
                **{name: found[f"output_{side}"] for name, side in zip(("chosen", "rejected"), sides, strict=True)},
                "category": found.get("dataset", ""),
                "score_chosen": certainty + 0.5,
                "score_rejected": 0.5 - certainty,
                "by": found[f"generator_{sides[0]}"],
            }
        )
    return rows


def record(annotations: Path, folder: Path, name: str) -> dict[str, Any]:
    """What the training in `folder` measured, beside always taking the generator that its training rows prefer."""
    manifest = read_json(folder / "manifest.json")
    stages = {entry["stage"]: entry for entry in manifest["stages"]}
    pairs, rows = pairs_of(annotations), Path(stages["rows"]["path"])
    train, held = (_places(rows / f"{part}.parquet") for part in ("train", "held_out"))
    usual = Counter(pairs[place]["by"] for place in train).most_common(1)[0][0]
    config = manifest["config"]
    settings = {key: config["data"][key] for key in ("held_out", "max_length")} | config["training"]
    return {
        "name": name,
        "annotations": len(pairs),
        "rows": stages["rows"]["counts"],
        "settings": {**settings, "seed": config["seed"]},
        "measures": stages["evaluate"]["counts"],
        "generator_alone": {
            "generator": usual,
            **agreement([pairs[place]["by"] == usual for place in held], [pairs[place]["prompt"] for place in held]),
        },
        "timing": {"train_s": stages["train"]["timing"]["wall_s"], "machine": machine()},
    }


def _places(path: Path) -> list[int]:
    """Places in the file of pairs of stored rows."""
    return [int(row.rsplit(" ", 1)[1]) - 1 for row in pq.read_table(path)["row"].to_pylist()]


def table() -> str:
    """The recorded trainings, a line each: agreement on held-out rows with its 95% interval."""
    lines = [
        "| start model | rows | reward model | the longer answer | usual generator | reward model minus length |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted(FOLDER.glob("*.json")):
        one = read_json(path)
        measures, alone = one["measures"], one["generator_alone"]
        shares = map(share_text, (measures["agreement"], measures["agreement_of_length_alone"], alone))
        cells = [one["name"], f"{one['rows']['train']} trained on", *shares]
        lines.append(f"| {' | '.join(cells)} | {difference_text(measures['agreement_minus_length_alone'])} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--pairs", type=Path, help="write them as rows for `optune reward`")
    parser.add_argument("--record", type=Path, metavar="DIR", help="the --out of a finished `optune reward`")
    parser.add_argument("--name", help="of the start model, for the table")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.pairs:
        rows = [{name: value for name, value in row.items() if name != "by"} for row in pairs_of(options.annotations)]
        write_text(options.pairs, "".join(json.dumps(row) + "\n" for row in rows))
        print(f"{options.pairs}: {len(rows)} pairs.")
    elif options.record and options.name:
        result = record(options.annotations, options.record, options.name)
        write_json(FOLDER / f"{options.name.lower().replace(' ', '-').replace(',', '')}.json", result)
        update({PLACE: table()})
        print(table())
    else:
        raise UserError("Give --pairs FILE to write the rows, or --record DIR --name NAME after the training.")


if __name__ == "__main__":
    sys.exit(main())
