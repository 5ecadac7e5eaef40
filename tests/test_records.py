"""What the long checks found is recorded as it was, failures too; a trial leaves nothing; the docs show the records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from experiments import documents
from experiments.robustness import audit, records
from experiments.robustness.fuzz import Outcome
from optune.utils.files import read_json, write_json

pytest_plugins = "pytester"

RAW = "tiny/raw/wdpo-lowest_reward-0.5/seed0.json"


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """A copy of docs/reliability.md, and results of a single arm and seed."""
    raw = read_json(records.ROOT / "results" / RAW)
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setattr(records, "RECORDS", tmp_path / "results" / "robustness")
    (tmp_path / "docs").mkdir()
    shutil.copy(documents.path_of("robustness"), tmp_path / "docs")
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    monkeypatch.setattr(audit, "RESULTS", tmp_path / "results")
    write_json(tmp_path / "results" / RAW, raw)
    return tmp_path / "results"


def test_the_docs_show_the_committed_records():
    assert documents.written("robustness") == records.table(records.committed())


def test_a_whole_audit_is_recorded_with_what_it_was_made_by(results):
    assert audit.main([]) == 0
    made = read_json(results / "robustness" / "audit.json")
    assert (made["command"], made["found"]) == ("make audit", "1 raw results: all of it holds")
    assert made["counts"]["raw_results"] == 1 and made["machine"]["cores"] >= 1
    assert made["processor_seconds"] >= 0 and made["date"][:2] == "20"
    assert documents.written("robustness") == records.table([made])


def test_an_audit_that_finds_faults_is_recorded_as_such(results):
    raw = read_json(results / RAW)
    raw["iterations"][3]["win"] += 1
    write_json(results / RAW, raw)
    assert audit.main([]) == 1
    assert read_json(results / "robustness" / "audit.json")["counts"]["problems"] == 1
    assert "1 raw results: 1 problems" in documents.written("robustness")


def test_a_trial_or_a_check_that_cannot_be_made_leaves_no_record(results):
    before = documents.path_of("robustness").read_text()
    assert audit.main([str(results / RAW)]) == 0
    assert audit.main(["--preset", "nano"]) == 2
    assert not (results / "robustness").exists() and documents.path_of("robustness").read_text() == before


def test_fuzzing_counts_its_cases_and_names_the_tests_that_fail(pytester):
    pytester.makepyfile(
        """
        def test_sound(record_property):
            record_property("cases", 40)

        def test_broken(record_property):
            record_property("cases", 2)
            assert False
        """
    )
    outcome = Outcome()
    pytester.inline_run(plugins=[outcome])
    assert str(outcome) == "42 cases of 2 tests; 1 tests fail: test_broken"
