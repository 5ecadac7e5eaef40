"""A study as data: the pairs, who rates which pair with which answer on the left, and the key.

The key is the only file that tells which model wrote which answer. It is stored beside the folders for the raters,
never inside one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from eval.answers import IDS, read_outputs
from optune.prompts.conversation import present
from optune.types import UserError
from optune.utils.files import read_json, write_json
from optune.utils.hashing import sha256_of, stable_hash

Choice = Literal["1", "2", "same"]
CHOICES: tuple[Choice, ...] = ("1", "2", "same")
KEY_FILE = "key.json"
KEY_FORMAT = "human-study-key/1"

# The paper's two comparisons; the first file of each is "OPTune" in Table 4.
PAPER_COMPARISONS = (
    ("OPTune 0.7 vs OPTune 1.0", "optune_0.7.json", "optune_1.0.json"),
    ("OPTune 0.7 vs random 0.7", "optune_0.7.json", "random_0.7.json"),
)


def digest(*texts: str) -> str:
    """SHA-256 (hex) of several texts; where each one ends is hashed, too. The page computes the same in the browser.

    No text of a study has an unpaired surrogate. A returned text with one gets a digest that no study's text has.
    """
    hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    return hashlib.sha256("".join(hashes).encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Output:
    """One row of an AlpacaEval output file, and where it stands."""

    prompt_id: str
    instruction: str
    output: str
    category: str
    where: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two output files under one name; a win is a win of `file_a`."""

    name: str
    file_a: Path
    file_b: Path


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one question, before anyone is asked about them."""

    pair_id: str
    comparison: str
    prompt_id: str
    category: str
    question: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True, slots=True)
class Item:
    """One pair as one rater sees it. `item_id` is drawn at random, so it tells nothing; `a_first` is the secret."""

    item_id: str
    rater: str
    pair_id: str
    a_first: bool


@dataclass(frozen=True, slots=True)
class Study:
    """Everything the key holds. `page_digests` is by rater; `items` stand in the order the raters see them."""

    study_id: str
    seed: int
    comparisons: tuple[dict[str, Any], ...]
    pairs: dict[str, Pair]
    items: tuple[Item, ...]
    page_digests: dict[str, str]
    prompts_left_out: dict[str, int]

    @property
    def raters(self) -> list[str]:
        return list(self.page_digests)

    def items_of(self, rater: str) -> list[Item]:
        return [item for item in self.items if item.rater == rater]

    def texts(self, item: Item) -> tuple[str, str, str]:
        """Question, answer 1 and answer 2, as shown."""
        pair = self.pairs[item.pair_id]
        answers = (pair.answer_a, pair.answer_b) if item.a_first else (pair.answer_b, pair.answer_a)
        return pair.question, *answers

    def item_digest(self, item: Item) -> str:
        return digest(*self.texts(item))

    def outcome(self, item: Item, choice: Choice) -> str:
        """`win`, `lose` or `tie` from the view of the comparison's first file."""
        if choice == "same":
            return "tie"
        return "win" if (choice == "1") == item.a_first else "lose"


# --- reading model outputs -------------------------------------------------------------------------------------------


def read_answers(path: str | Path) -> list[Output]:
    """Rows of an AlpacaEval output file: `instruction`, `output`, and where there are any `prompt_id`/`id`, `category`.

    A row without an id gets the one that the win score gives it, a hash of its instruction and of its repetition. Line
    ends become `\\n`, which is how they are shown. Raises UserError naming file, row and field.
    """
    outputs, seen = [], Counter()
    for number, row in enumerate(read_outputs(path), start=1):
        prompt_id = next((row[name] for name in IDS if name in row), None)
        if prompt_id is None:
            known = stable_hash(row["instruction"])[:16]
            seen[known] += 1
            prompt_id = known if seen[known] == 1 else f"{known}#{seen[known]}"
        texts = (plain_lines(row[name]) for name in ("instruction", "output"))
        category = str(row["category"]) if present(row.get("category")) else ""
        outputs.append(Output(str(prompt_id), *texts, category, f"{path}, row {number}"))
    twice = [prompt_id for prompt_id, count in Counter(o.prompt_id for o in outputs).items() if count > 1]
    if twice:
        raise UserError(f"{path}: prompt id {twice[0]!r} stands on more than one row; give every prompt its own id.")
    return outputs


def plain_lines(text: str) -> str:
    """The text with every line end as `\n`."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def shared_prompts(comparisons: Sequence[Comparison]) -> tuple[dict[Path, dict[str, Output]], list[str]]:
    """Every file's rows by prompt id, and the ids that all files share, sorted.

    Raises UserError where two files give one id to two instructions.
    """
    paths = dict.fromkeys(path for c in comparisons for path in (c.file_a, c.file_b))
    files = {path: {o.prompt_id: o for o in read_answers(path)} for path in paths}
    first, *others = files.values()
    shared = sorted(set(first).intersection(*others))
    for prompt_id in shared:
        for other in others:
            if other[prompt_id].instruction != first[prompt_id].instruction:
                raise UserError(
                    f"{other[prompt_id].where}: prompt {prompt_id!r} has another instruction than in "
                    f"{first[prompt_id].where}; the files must answer the same prompts."
                )
    return files, shared


def describe(comparison: Comparison) -> dict[str, Any]:
    """A comparison as the key records it: its files' content and the models' own names."""

    def side(path: Path) -> dict[str, str]:
        generators = {str(row["generator"]) if present(row.get("generator")) else "" for row in read_outputs(path)}
        return {"file": path.name, "sha256": sha256_of(path), "generator": ", ".join(sorted(generators))}

    return {"name": comparison.name, "a": side(comparison.file_a), "b": side(comparison.file_b)}


# --- the key ---------------------------------------------------------------------------------------------------------


def write_key(folder: Path, study: Study) -> Path:
    """Write `key.json`, the file that unblinds the study."""
    return write_json(folder / KEY_FILE, {"format": KEY_FORMAT, **asdict(study)})


def read_key(folder: str | Path) -> Study:
    """Read a study back; raises UserError where `folder` holds none."""
    path = Path(folder) / KEY_FILE
    if not path.exists():
        raise UserError(f"{folder}: no study here ({KEY_FILE} is missing); give the folder that export wrote.")
    key = read_json(path)
    if not isinstance(key, dict) or key.pop("format", None) != KEY_FORMAT:
        raise UserError(f"{path}: not the key of a study that this version can read ({KEY_FORMAT}).")
    try:
        return Study(
            **{
                **key,
                "comparisons": tuple(key["comparisons"]),
                "pairs": {pair_id: Pair(**pair) for pair_id, pair in key["pairs"].items()},
                "items": tuple(Item(**item) for item in key["items"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: the key is damaged ({error}); restore it from a copy.") from None
