"""Table 6: the rating prompt, its hash, and whether it is what the judge's client sends.

The request that a judge gets for a known question and two known answers is built as for any comparison; taking the
three texts out again must leave the file `eval/judges/rating_prompt.txt`.
"""

from __future__ import annotations

from eval.judges import Judge, judge_of
from eval.judges.rating import PATH, template_hash
from eval.verdicts import ORDERS
from eval.win_score import Contest
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure

PLACES = {"{question}": "<the question>", "{answer_1}": "<the answer shown first>", "{answer_2}": "<the other answer>"}


def collect(evidence: Evidence) -> Data:
    """The prompt, where it lies, its SHA-256, and what the preset's judge is sent in both orders."""
    text, judge = PATH.read_text("utf-8"), judge_of(evidence.setting.config.evaluation.judge)
    return {
        "file": str(PATH.relative_to(ROOT)),
        "sha256": template_hash(),
        "prompt": text,
        "sent_as_it_is": {order: sent(judge, order) == text.strip() for order in ORDERS},
    }


def sent(judge: Judge, order: str) -> str:
    """What a judge is sent in one order, with the texts replaced by their places again."""
    question, first, second = PLACES.values()
    answer, baseline = (first, second) if order == "AB" else (second, first)
    messages = Contest("known", question, answer, baseline).request(order, judge).messages
    text = "\n".join(f"[{message['role'].capitalize()} Prompt]\n{message['content']}" for message in messages)
    for place, known in PLACES.items():
        text = text.replace(known, place)
    return text


def lines(data: Data) -> list[str]:
    """The prompt, indented, and what was found."""
    orders = ", ".join(f"{order} {'yes' if same else 'NO'}" for order, same in data["sent_as_it_is"].items())
    prompt = [f"    {line}" for line in data["prompt"].strip().splitlines()]
    return [*prompt, f"  {data['file']}, sha256 {data['sha256']}", f"  sent to the judge as it is: {orders}"]


FIGURE = Figure("The rating prompt", (), collect, None, lines)
