"""The rating prompt: the measuring instrument, quoted in `rating_prompt.txt` and filled in here.

Source: "OPTune: Efficient Online Preference Tuning", appendix F, Table 6 ("The GPT4 evaluation prompt"), which goes
back to the Vicuna blog post of 30 March 2023 (lmsys.org). The wording is the table's; line breaks that come from the
page's width are joined. Where the table shows the places of the texts, the file has `{question}` (below the table's
own "[Question]"), `{answer_1}` and `{answer_2}`.
"""

from __future__ import annotations

from pathlib import Path

from eval.judges.form import Form
from eval.judges.parser import parse_scores

PATH = Path(__file__).with_name("rating_prompt.txt")
RATING = Form(PATH, parse_scores)
render, read_back = RATING.render, RATING.read_back


def template_hash() -> str:
    """SHA-256 of the prompt file; part of every judge call's content key."""
    return RATING.template_hash
