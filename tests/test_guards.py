"""What no rearrangement of the code may change: the world, what a stage's key depends on, and the claims."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from optune.config import RunConfig
from optune.loop.algorithm import run_optune
from optune.utils.files import read_json
from optune.utils.hashing import stable_hash

ROOT = Path(__file__).resolve().parents[1]

# Options that reach every branch of the stages' keys, beside the plain run.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "growing history, fixed reference, length penalty, validation": {
        "pairs.view": "all",
        "training.reference": "sft",
        "training.start": "sft",
        "reward.length_penalty": 0.01,
        "generation.n": 4,
        "prompts.source": "disjoint",
    },
    "offsets, micro-batches, adapters": {
        "selection.strategy": "lowest_centered",
        "selection.offset_samples": 1,
        "pairs.without_words": "left_out",
        "training.batching": "length_grouped",
        "training.lora": {"r": 2},
        "loss.name": "dpo",
    },
}

# Variant -> stage -> `key_material`. A change means that all finished stages are made again, in runs under way, too.
KEY_MATERIAL = read_json(Path(__file__).with_name("key_material.json"))

# The pre-registration: a change here is a change of what was claimed, and belongs in a commit of its own.
CLAIMS_AS_DATA = "60d8b87e41605cf952c7bb5e09b44258057d6606a3ce9715530b9d607e43fad7"


def key_material(stage_folder: Path, tmp: Path) -> str:
    """What a stage's key is made of, without what differs by machine: content hashes, package versions, folders."""
    record = read_json(stage_folder / "stage.json")
    material = [record["stage"], record["version"], record["fields"], sorted(record["inputs"])]
    return stable_hash(json.loads(json.dumps(material).replace(str(tmp), "TMP")))[:16]


def claims_as_data() -> list[Any]:
    """The claims without their code: what each says, needs and is judged by, and the claims without a verdict."""
    from experiments.claims.claims import CLAIMS, REAL_ONLY
    from experiments.claims.rules import FAMILY_ERROR, MARGIN_SHARE, OUTCOMES

    rows = []
    for claim in CLAIMS:
        names = {f.name for f in dataclasses.fields(claim)} - {"contrast", "gate", "margin_share"}
        fields = {f.name: getattr(claim, f.name) for f in dataclasses.fields(claim) if f.name in names}
        assert claim.margin_share == MARGIN_SHARE
        rows.append({**fields, "gated": claim.gate is not None})
    return [rows, REAL_ONLY, OUTCOMES, MARGIN_SHARE, FAMILY_ERROR]


def test_the_world_is_the_one_of_the_committed_results():
    from optune import sandbox

    recorded = read_json(ROOT / "results/tiny/raw/wdpo-all-1.0/seed0.json")["sandbox"]["hash"]
    assert sandbox.content_hash() == recorded


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_material_of_every_stage_key_is_as_it_was(config: RunConfig, variant: str, tmp_path, tmp_path_factory):
    changed = config.with_overrides(VARIANTS[variant])
    if "validation" in variant:
        changed = changed.with_overrides({"validation": {"path": changed.prompts.path, "limit": 8}})
    result = run_optune(changed, tmp_path)
    material = {}
    for entry in result.stages:
        stage = f"{entry['iteration']} {entry['stage']}"
        material[stage] = key_material(Path(entry["path"]), tmp_path_factory.getbasetemp())
    assert material == KEY_MATERIAL[variant]


def test_the_claims_are_the_registered_ones():
    assert stable_hash(json.loads(json.dumps(claims_as_data()))) == CLAIMS_AS_DATA
