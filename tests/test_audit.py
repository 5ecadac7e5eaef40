"""The audit passes on a sound run, changes nothing, and catches tampering, also where all hashes were made to fit."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optune.finished.audit import audit_run
from optune.store import hash_files
from optune.types import UserError
from optune.utils.files import read_json, write_json
from optune.utils.hashing import stable_hash


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, config) -> Path:
    from optune.loop.algorithm import run_optune

    run_dir = tmp_path_factory.mktemp("audited") / "run"
    run_optune(config, run_dir)
    return run_dir


@pytest.fixture
def run_dir(finished: Path) -> Iterator[Path]:
    """The finished run, put back as it was after the test."""
    backup = finished.with_name("backup")
    shutil.copytree(finished, backup)
    yield finished
    shutil.rmtree(finished)
    backup.rename(finished)


def folder(run_dir: Path, stage: str, t: int = 0) -> Path:
    stages = read_json(run_dir / "manifest.json")["stages"]
    return next(Path(e["path"]) for e in stages if (e["iteration"], e["stage"]) == (t, stage))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    write_json(path, change(read_json(path)))


def edit_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def seal(run_dir: Path, stage: Path, **counts: Any) -> None:
    """What a careful forger does: hashes and counts made to fit, in the record and in the manifest."""
    files = hash_files(stage)
    new = {"files": files, "digest": stable_hash(files)}
    record = read_json(stage / "stage.json")
    record |= new | {"counts": record["counts"] | counts}
    write_json(stage / "stage.json", record)
    manifest = read_json(run_dir / "manifest.json")
    for entry in manifest["stages"]:
        if entry["path"] == str(stage):
            entry |= {"digest": record["digest"], "counts": record["counts"]}
    write_json(run_dir / "manifest.json", manifest)


def with_column(table: pa.Table, name: str, change: Callable[[list], list]) -> pa.Table:
    place = table.schema.get_field_index(name)
    field = table.schema.field(name)
    return table.set_column(place, field, pa.array(change(table[name].to_pylist()), field.type))


# --- ten and more ways to go wrong ---


def weight_byte(run_dir):
    path = folder(run_dir, "train") / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def half_a_table(run_dir):
    path = folder(run_dir, "score") / "history.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def missing_file(run_dir):
    (folder(run_dir, "train", 1) / "config.json").unlink()


def missing_folder(run_dir):
    shutil.rmtree(folder(run_dir, "generate", 1))


def added_pickle(run_dir):
    stage = folder(run_dir, "train")
    (stage / "training_args.bin").write_bytes(b"\x80\x04.")
    seal(run_dir, stage)


def other_configuration(run_dir):
    edit(run_dir / "manifest.json", lambda m: m | {"config": m["config"] | {"seed": 5}})


def other_inputs(run_dir):
    path = folder(run_dir, "score") / "stage.json"
    edit(path, lambda r: r | {"inputs": r["inputs"] | {"responses": "0" * 64}})


def other_counts(run_dir):
    path = folder(run_dir, "select", 1) / "stage.json"
    edit(path, lambda r: r | {"counts": r["counts"] | {"selected": 31}})


def hidden_exclusion(run_dir):
    stage = folder(run_dir, "pairs")
    left_out = read_json(stage / "stage.json")["counts"]["left_out"]
    seal(run_dir, stage, left_out={**left_out, "equal_rewards": left_out.get("equal_rewards", 0) + 1})


def lost_prompts(run_dir):
    seal(run_dir, folder(run_dir, "prompts"), offered=70)


def other_reward(run_dir):
    stage = folder(run_dir, "score")
    raised = lambda rewards: [100.0, *rewards[1:]]  # noqa: E731
    edit_table(stage / "history.parquet", lambda t: with_column(t, "reward", raised))
    seal(run_dir, stage)


def reward_not_a_number(run_dir):
    stage = folder(run_dir, "score", 1)
    edit_table(stage / "history.parquet", lambda t: with_column(t, "reward", lambda r: [math.nan, *r[1:]]))
    seal(run_dir, stage)


def other_selection(run_dir):
    stage = folder(run_dir, "select", 1)
    everyone = {r["prompt_id"] for r in pq.read_table(folder(run_dir, "score") / "history.parquet").to_pylist()}

    def swap_one(selected):
        return [*selected[:-1], min(everyone - set(selected))]

    edit(stage / "selected.json", swap_one)
    seal(run_dir, stage)


def swapped_pair(run_dir):
    stage = folder(run_dir, "pairs", 1)

    def swap(table):
        chosen, rejected = table["chosen"].to_pylist(), table["rejected"].to_pylist()
        table = with_column(table, "chosen", lambda c: [rejected[0], *c[1:]])
        return with_column(table, "rejected", lambda r: [chosen[0], *r[1:]])

    edit_table(stage / "pairs.parquet", swap)
    seal(run_dir, stage)


def lost_pair(run_dir):
    stage = folder(run_dir, "pairs")
    edit_table(stage / "pairs.parquet", lambda t: t.slice(1))
    seal(run_dir, stage, pairs=read_json(stage / "stage.json")["counts"]["pairs"] - 1)


def lost_response(run_dir):
    stage = folder(run_dir, "generate")
    edit_table(stage / "responses.parquet", lambda t: t.slice(1))
    seal(run_dir, stage, responses=127)


def exchanged_text(run_dir):
    stage = folder(run_dir, "score")
    edit_table(stage / "history.parquet", lambda t: with_column(t, "text", lambda x: ["better", *x[1:]]))
    seal(run_dir, stage)


def response_of_another_iteration(run_dir):
    stage = folder(run_dir, "generate", 1)
    edit_table(stage / "responses.parquet", lambda t: with_column(t, "iteration", lambda x: [0, *x[1:]]))
    seal(run_dir, stage)


def weight_not_a_number(run_dir):
    from safetensors.torch import load_file, save_file

    stage = folder(run_dir, "train", 1)
    weights = load_file(stage / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = math.inf
    save_file(weights, stage / "model.safetensors")
    seal(run_dir, stage)


def stage_left_out(run_dir):
    edit(run_dir / "manifest.json", lambda m: m | {"stages": [*m["stages"][:4], *m["stages"][5:]]})


CORRUPTIONS = {
    weight_byte: r"iteration 0 train: .*model\.safetensors is not as it was written",
    half_a_table: r"iteration 0 score: .*history\.parquet is not as it was written",
    missing_file: r"iteration 1 train: .*config\.json is missing",
    missing_folder: r"iteration 1 generate: .* is not there",
    added_pickle: r"iteration 0 train: .*training_args\.bin can carry code",
    other_configuration: r"iteration 0 prompts: .*fields\.seed: 0 -> 5",
    other_inputs: r"iteration 0 score: .*stage\.json was edited",
    other_counts: r"iteration 1 select: manifest\.json and .*stage\.json differ in counts",
    hidden_exclusion: r"iteration 0 pairs: counts are not those of its rows: left_out\.equal_rewards",
    lost_prompts: r"iteration 0 prompts: it counts 70 prompts offered, and there are 64",
    other_reward: r"iteration 0 pairs: .*pairs\.parquet is not what the stored rewards give",
    reward_not_a_number: r"iteration 1 score: it holds a reward that is not a finite number",
    other_selection: r"iteration 1 select: .*selected\.json is not what the stored rewards give",
    swapped_pair: r"iteration 1 pairs: .*pairs\.parquet is not what the stored rewards give",
    lost_pair: r"iteration 0 pairs: it counts \d+ groups of responses, and there are 64",
    lost_response: r"iteration 0 generate: its responses are not 2 to each of the 64 selected prompts",
    exchanged_text: r"iteration 0 score: its rows are not the responses that were sampled",
    response_of_another_iteration: r"iteration 1 generate: it holds responses of another iteration",
    weight_not_a_number: r"iteration 1 train: .*the weight .* is not finite",
    stage_left_out: r"iteration 0 pairs: .*the manifest has 'train' in the place of 'pairs'",
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda f: f.__name__)
def test_the_audit_catches(run_dir, corrupt):
    corrupt(run_dir)
    found = "\n".join(audit_run(run_dir).problems)
    assert re.search(CORRUPTIONS[corrupt], found), found


def test_a_sound_run_passes_and_is_left_as_it_is(finished):
    before = hash_files(finished.parent)
    audit = audit_run(finished)
    assert audit.finished and not audit.problems and audit.stages == 14
    assert hash_files(finished.parent) == before


def test_an_unfinished_run_is_checked_as_far_as_it_goes(run_dir):
    edit(run_dir / "manifest.json", lambda m: m | {"stages": m["stages"][:9]})
    audit = audit_run(run_dir)
    assert (audit.finished, audit.stages, audit.problems) == (False, 9, [])
    other_reward(run_dir)
    assert audit_run(run_dir).problems


def test_the_command_says_what_does_not_hold_by_line_and_status(run_dir, capsys):
    from optune.__main__ import main

    assert main(["audit", str(run_dir)]) == 0
    assert capsys.readouterr().out == "14 stages of a run that is finished: all of it holds.\n"
    weight_byte(run_dir)
    assert main(["audit", str(run_dir)]) == 1
    assert "does not hold: iteration 0 train" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"config": {}, "stages": []}', '{"config": 7, "stages": 7}'])
def test_a_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        audit_run(tmp_path)


def test_every_line_of_a_hostile_manifest_is_a_problem_and_not_a_crash(run_dir):
    edit(
        run_dir / "manifest.json",
        lambda m: m | {"stages": [7, None, {}, {"iteration": 0}, m["stages"][0] | {"path": "/"}]},
    )
    assert len(audit_run(run_dir).problems) == 5


# --- raw results ---

RAW = Path(__file__).resolve().parents[1] / "results" / "tiny" / "raw"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: raw["iterations"][2].update(win=raw["iterations"][2]["win"] + 1), r"iteration 2: win is \d+, its"),
        (
            lambda raw: raw["iterations"][1].update(win_score=60.0),
            r"iteration 1: win_score is 60\.0, its verdicts give",
        ),
        (lambda raw: raw["iterations"][0].update(verdicts="X" + raw["iterations"][0]["verdicts"][1:]), "is none of W"),
        (lambda raw: raw["iterations"][3].update(gold_mean=9.0), r"iteration 3: gold_mean is 9\.0"),
        (lambda raw: raw["iterations"][3]["gold"].pop(), "golds and 2048 verdicts"),
        (lambda raw: raw["iterations"].pop(1), "not numbered from 0"),
        (lambda raw: raw["iterations"][1]["stages"]["score"].update(rewards=7), "rewards: .* rows in, 7 accounted for"),
        (lambda raw: raw["iterations"][1]["stages"]["pairs"].update(left_out={}), "pairs: 1024 rows in"),
        (lambda raw: raw.update(seed=9), "lies elsewhere"),
    ],
)
def test_a_raw_result_that_contradicts_itself_is_caught(tmp_path, change, sentence):
    from experiments.robustness.audit import audit_raw

    source = RAW / "wdpo-lowest_reward-0.5" / "seed0.json"
    path = tmp_path / source.relative_to(RAW.parents[1])
    assert audit_raw(source) == []
    raw = read_json(source)
    change(raw)
    write_json(path, raw)
    assert re.search(sentence, "\n".join(audit_raw(path)))


def test_results_of_two_builds_of_one_world_are_told_apart():
    from experiments.compute.results import builds, mixed_builds

    sources = [RAW / name / "seed0.json" for name in ("wdpo-lowest_reward-0.5", "wdpo-all-1.0")]
    here, elsewhere = map(read_json, sources)
    assert mixed_builds(builds([here, elsewhere])) == []
    elsewhere["baseline"]["gold"][0] += 0.5
    (told,) = mixed_builds(builds([here, elsewhere]))
    assert told == "seed 0: 1 arms such as wdpo-lowest_reward-0.5 / 1 arms such as wdpo-all-1.0"
