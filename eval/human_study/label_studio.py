"""The same study in Label Studio: one task file per rater and the labelling interface they share.

Every rater's tasks go into a project of their own. The export ("JSON") comes back with the tasks' texts, so import
hashes them again and notices an altered task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.human_study.study import Study, digest
from eval.human_study.submission import Row, Submission
from optune.types import UserError
from optune.utils.files import write_json, write_text

CONFIG = """<View>
  <Header value="Which answer is more helpful to the person who asked?"/>
  <Header size="5" value="Question"/>
  <Text name="question" value="$question" valueType="text"/>
  <View style="display: flex; gap: 1em;">
    <View style="flex: 1; min-width: 0;">
      <Header size="5" value="Answer 1"/>
      <Text name="answer_1" value="$answer_1" valueType="text"/>
    </View>
    <View style="flex: 1; min-width: 0;">
      <Header size="5" value="Answer 2"/>
      <Text name="answer_2" value="$answer_2" valueType="text"/>
    </View>
  </View>
  <Choices name="rating" toName="question" choice="single" required="true" showInline="true">
    <Choice value="Answer 1 is better" alias="1" hotkey="1"/>
    <Choice value="Answer 2 is better" alias="2" hotkey="2"/>
    <Choice value="They are about the same" alias="same" hotkey="3"/>
  </Choices>
</View>
"""


def write_label_studio(folder: Path, study: Study) -> None:
    """Write `config.xml` and `tasks-<rater>.json` for every rater."""
    write_text(folder / "config.xml", CONFIG)
    for rater in study.raters:
        tasks = []
        for item in study.items_of(rater):
            question, first, second = study.texts(item)
            ids = {"study": study.study_id, "rater": rater, "item": item.item_id}
            tasks.append({"data": {**ids, "question": question, "answer_1": first, "answer_2": second}})
        write_json(folder / f"tasks-{rater}.json", tasks)


def read_label_studio(path: Path, tasks: list[Any]) -> Submission:
    """Label Studio's JSON export of one rater's project; a task without a submitted annotation is not yet rated.

    Raises UserError where it is another kind of list, mixes raters, or has two annotations of one task.
    """
    rows, owners = [], set()
    for number, task in enumerate(tasks, start=1):
        try:
            data = task["data"]
            owners.add((data["study"], data["rater"]))
            item, texts = data["item"], (data["question"], data["answer_1"], data["answer_2"])
            annotations = [a for a in task["annotations"] if not a.get("was_cancelled")]
            results = [r["value"]["choices"] for a in annotations for r in a["result"] if r["from_name"] == "rating"]
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{path}, task {number}: not a Label Studio export of this study's tasks.") from None
        choices = [choice for choice in results if choice not in (None, [])]
        if len(choices) > 1 or any(not isinstance(choice, list) or len(choice) != 1 for choice in choices):
            raise UserError(f"{path}, task {number}: has more than one rating; keep one and export again.")
        if choices:
            rated_at = str(annotations[0].get("created_at", ""))
            rows.append(Row(number, str(item), digest(*map(str, texts)), str(choices[0][0]), rated_at))
    if len(owners) != 1:
        raise UserError(f"{path}: must hold the tasks of exactly one rater, and holds those of {len(owners)}.")
    study, rater = owners.pop()
    return Submission(path, str(study), str(rater), None, tuple(rows))
