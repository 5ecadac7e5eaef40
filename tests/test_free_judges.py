"""Real answers can be judged without paying: by a function of one's own, or by a model on this machine."""

from __future__ import annotations

import json

import pytest

from eval.win_score import main

ANSWERS = {"long": "a long and careful answer", "short": "no"}


@pytest.fixture
def answers(tmp_path):
    for name, text in ANSWERS.items():
        rows = [{"prompt_id": f"p{i}", "instruction": f"Why {i}?", "output": text, "generator": name} for i in range(3)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path


def judged(folder, *judge):
    files = ["--outputs", str(folder / "long.json"), "--baseline", str(folder / "short.json")]
    return main(["judge", *files, "--run-dir", str(folder / "run"), *judge])


@pytest.mark.parametrize(
    "signature",
    ["question, *answers", "prompt, first, second", "a, b, c='no answer'"],
    ids=["star", "names", "default"],
)
def test_a_function_of_ones_own_judges_real_answers_in_both_orders(answers, capsys, signature):
    given = "answers" if "*" in signature else "(first, second)" if "first" in signature else "(b, c)"
    (answers / "mine.py").write_text(
        f"def rate({signature}):\n    return tuple(9.0 if len(answer) > 5 else 2.0 for answer in {given})\n"
    )
    assert judged(answers, "--judge", f"{answers / 'mine.py'}:rate") == 0
    assert "150" in capsys.readouterr().out


def test_a_local_model_is_asked_as_a_paid_one_and_says_what_it_used(chatml_llama):
    from eval.judges import make_judge
    from eval.judges.local import LocalModel

    model = LocalModel(str(chatml_llama))
    status, body = model.respond({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    assert status == 200 and body["usage"]["completion_tokens"] <= 4 and body["usage"]["prompt_tokens"] > 0
    body = {"messages": [{"role": "user", "content": "Hi"}], "structured_outputs": {"choice": ["AB", "C"]}}
    (choice,) = model.respond(body)[1]["choices"]
    assert choice["message"]["content"] in ("AB", "C") and choice["finish_reason"] == "stop"
    judge = make_judge("local", str(chatml_llama))
    assert judge.chat.model == model.name and judge.chat.price_in == 0.0
    assert make_judge("local", str(chatml_llama), concurrency=16).chat.concurrency == 1
