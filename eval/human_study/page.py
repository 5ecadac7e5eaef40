"""One self-contained page per rater. It works from a file, loads nothing, and shows if it was altered.

The page is pure ASCII but for its own wording; the texts of models stand in one JSON block with `<`, `>` and `&`
escaped, and reach the screen as text nodes only. What the rater reads and the program that records it are *sealed*:
the browser hashes them when the page opens, and import compares that hash with the one in the key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from eval.human_study.study import Study, digest

TEMPLATE = Path(__file__).with_name("page.html").read_text("utf-8")
RATINGS_FORMAT = "human-study-ratings/1"
VOID = {"meta", "input", "br", "hr", "img", "link"}


def render_page(study: Study, rater: str) -> tuple[str, str]:
    """The rater's page and its digest. It names neither models nor files."""
    items = []
    for item in study.items_of(rater):
        question, first, second = study.texts(item)
        items.append(
            {
                "id": item.item_id,
                "digest": study.item_digest(item),
                "question": question,
                "answer_1": first,
                "answer_2": second,
            }
        )
    content = {"format": RATINGS_FORMAT, "study": study.study_id, "rater": rater, "items": items}
    # The model texts go in last, so that nothing in them is taken for a placeholder.
    frame, end = TEMPLATE.replace("@@SCRIPT_HASH@@", _script_hash()).split("@@STUDY@@")
    page = frame + script_json(content) + end
    page_digest = digest(*sealed_texts(page))
    return page.replace("@@PAGE_DIGEST@@", page_digest, 1), page_digest


def script_json(value: object) -> str:
    """JSON that can stand inside a script element: ASCII, and without a character that HTML could read as markup."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def sealed_texts(page: str) -> list[str]:
    """The text content of every element marked `data-sealed`, in order, as a browser gives it."""
    parser = _Sealed(convert_charrefs=True)
    parser.feed(page)
    parser.close()
    return parser.texts


class _Sealed(HTMLParser):
    """Collects text below `data-sealed`; such elements do not nest."""

    def __init__(self, **options: bool):
        super().__init__(**options)
        self.texts: list[str] = []
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._depth == 0 and "data-sealed" in dict(attrs):
            self.texts.append("")
            self._depth = 1
        elif self._depth and tag not in VOID:
            self._depth += 1

    def handle_endtag(self, tag: str) -> None:
        if self._depth:
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.texts[-1] += data


def _script_hash() -> str:
    """What the page's content security policy allows to run: this one script and nothing else."""
    (script,) = re.findall(r"<script data-sealed>(.*?)</script>", TEMPLATE, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
