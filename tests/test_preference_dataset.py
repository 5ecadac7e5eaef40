"""`preference_dataset`: plain pairs for WeightedDPOTrainer are what `optune preference` would train on."""

from __future__ import annotations

import pytest
from datasets import Dataset

from optune import WeightedDPOTrainer, preference_dataset
from optune.config import load_section
from optune.pipeline.settings import KINDS
from optune.pipeline.train import task_of
from optune.training.reference import sequence_logprobs
from optune.types import UserError

ROWS = [
    {"prompt": f"add one and {word}", "chosen": word, "rejected": f"{word} dog", "score_chosen": 2, "score_rejected": 0}
    for word in ("one", "two", "three")
]
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def test_rows_are_tokenized_as_the_command_does_and_measured_by_the_reference(random_llama):
    from transformers import AutoModelForCausalLM

    given = {"model": str(random_llama), "data": {"path": "x"}, "loss": {"name": "wdpo"}}
    config, task = load_section(KINDS["preference"], None, given), task_of("preference")
    encode = task.encoder(config, task.tokenizer(config))
    data = preference_dataset(Dataset.from_list(ROWS), random_llama)
    expected = [encode(task.parse(row, "row")) for row in ROWS]
    assert [[row[name] for name in IDS] for row in data] == [[row[name].tolist() for name in IDS] for row in expected]
    model = AutoModelForCausalLM.from_pretrained(random_llama)
    for side in ("chosen", "rejected"):
        pairs = [(row["prompt_ids"], row[f"{side}_ids"]) for row in data]
        assert list(data[f"ref_{side}_logps"]) == pytest.approx(sequence_logprobs(model, pairs, 0, 8), rel=1e-5)
    assert preference_dataset(ROWS, model)[:] == data[:]


def test_what_cannot_train_is_counted_and_told(random_llama, capsys):
    more = [{**ROWS[0], "chosen": " "}, {**ROWS[0], "rejected": ROWS[0]["chosen"]}, {**ROWS[0], "chosen": "dog " * 60}]
    assert len(preference_dataset([*ROWS, *more], random_llama, max_length=32)) == 3
    told = capsys.readouterr().err
    assert "3 of 6 rows are left out: 1 empty_response, 1 identical_responses, 1 too_long." in told
    with pytest.raises(UserError, match=r"No row is left to train on .*too_long; max_length=2"):
        preference_dataset(ROWS, random_llama, max_length=2)


def test_rows_without_scores_train_by_dpo_alone(random_llama):
    plain = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in ROWS]
    with pytest.raises(UserError, match=r"row 1: loss 'wdpo' needs `score_chosen`"):
        preference_dataset(plain, random_llama)
    assert set(preference_dataset(plain, random_llama, loss="dpo")["score_chosen"]) == {0.0}
    with pytest.raises(UserError, match=r"row 2: no `rejected`"):
        preference_dataset([ROWS[0], {"prompt": "add", "chosen": "one"}], random_llama)


def test_the_trainer_says_what_a_plain_data_set_lacks_and_what_makes_it(random_llama, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig

    given = {
        "args": DPOConfig(str(tmp_path), use_cpu=True, report_to="none"),
        "train_dataset": Dataset.from_list(ROWS),
        "processing_class": AutoTokenizer.from_pretrained(random_llama),
    }
    model = AutoModelForCausalLM.from_pretrained(random_llama)
    with pytest.raises(UserError, match=r"no prompt_ids, chosen_ids.*optune\.preference_dataset"):
        WeightedDPOTrainer(model, **given)
    for name in ("args", "processing_class"):
        with pytest.raises(UserError, match=f"needs {name}="):
            WeightedDPOTrainer(model, **{**given, name: None})
