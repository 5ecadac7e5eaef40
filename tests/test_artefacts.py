"""Files that can be believed."""

from __future__ import annotations

import json
import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optune.store import StageStore, content_hash
from optune.types import UserError
from optune.utils.files import read_json, write_json, write_text
from optune.utils.hashing import stable_hash, stable_seed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_json_has_null_where_a_number_is_not_finite(tmp_path):
    path = write_json(tmp_path / "a.json", {"a": math.nan, "b": [math.inf, 1.5]})
    assert json.loads(path.read_text()) == {"a": None, "b": [None, 1.5]}


def test_broken_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json: not valid JSON"):
        read_json(tmp_path / "a.json")


@given(JSON, JSON)
def test_hashes_are_equal_exactly_for_equal_values(a, b):
    same_text = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (stable_hash(a) == stable_hash(b)) == same_text
    assert 0 <= stable_seed(a) < 2**63


def test_known_hash_is_the_same_in_every_process_and_version():
    assert stable_hash("a", 1, None) == "0ae764bffd3a17b6454c8d9ebf712311d9b92efce67a4e4ea4f095fc05ed0122"


def test_content_decides_a_hash_and_not_the_place(tmp_path):
    for name in ("a", "b"):
        write_text(tmp_path / name / "x.txt", "same")
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    write_text(tmp_path / "b" / "x.txt", "other")
    assert content_hash(tmp_path / "a") != content_hash(tmp_path / "b")


def build(folder):
    write_text(folder / "out.txt", "result")
    return {"rows": 3, "seconds": {"train_s": 1.0}}


def test_a_stage_is_made_once_per_key(tmp_path):
    store = StageStore(tmp_path)
    first = store.run("s", build, fields={"a": 1}, inputs={})
    again = store.run("s", lambda folder: pytest.fail("made twice"), fields={"a": 1}, inputs={})
    assert (first.reused, again.reused) == (False, True)
    assert (again.path, again.digest, again.counts, again.timing) == (
        first.path,
        first.digest,
        {"rows": 3},
        first.timing,
    )


@pytest.mark.parametrize("change", [{"fields": {"a": 2}}, {"inputs": {"x": "1"}}, {"version": 2}])
def test_anything_that_could_change_a_result_changes_its_key(tmp_path, change):
    store = StageStore(tmp_path)
    base = {"fields": {"a": 1}, "inputs": {}}
    assert store.run("s", build, **base).key != store.run("s", build, **(base | change)).key


def test_wall_clock_is_outside_every_hash(tmp_path):
    first = StageStore(tmp_path / "1").run("s", build, fields={}, inputs={})
    second = StageStore(tmp_path / "2").run("s", build, fields={}, inputs={})
    assert first.timing["wall_s"] != second.timing["wall_s"]
    assert (first.key, first.digest) == (second.key, second.digest)


@pytest.mark.parametrize("damage", ["truncate", "delete", "add", "record"])
def test_a_damaged_stage_is_never_used(tmp_path, damage):
    store = StageStore(tmp_path)
    artefact = store.run("s", build, fields={}, inputs={})
    if damage == "truncate":
        (artefact / "out.txt").write_text("res")
    elif damage == "delete":
        (artefact / "out.txt").unlink()
    elif damage == "add":
        (artefact / "more.txt").write_text("x")
    else:
        (artefact / "stage.json").write_text("{")
    again = store.run("s", build, fields={}, inputs={})
    assert not again.reused and (again / "out.txt").read_text() == "result"


def test_a_stage_that_fails_leaves_nothing_to_be_believed(tmp_path):
    store = StageStore(tmp_path)

    def fail(folder):
        write_text(folder / "out.txt", "half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.run("s", fail, fields={}, inputs={})
    assert not store.run("s", build, fields={}, inputs={}).reused
