"""A report in Markdown as one HTML page that needs nothing else: pictures are inside it, raw HTML is escaped."""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1a1a1a; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.85rem; display: block; overflow-x: auto; }
th, td { border: 1px solid #ccc; padding: 0.35rem 0.5rem; text-align: left; vertical-align: top; }
th { background: #f3f3f3; } img { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: 0.7rem; overflow-x: auto; font-size: 0.8rem; } code { background: #f6f6f6; }
"""


def page(markdown: str, title: str, folder: Path) -> str:
    """HTML of `markdown`, whose pictures are read from paths relative to `folder`. Nothing in it is fetched or run."""
    renderer, tokens = _parsed(markdown)
    for heading, _, anchor in _headings(tokens):
        heading.attrSet("id", anchor)
    body = renderer.renderer.render(tokens, renderer.options, {})
    body = body.replace("&lt;br&gt;", "<br>")  # line breaks in table cells
    body = re.sub(r'<img src="([^"]+)"', lambda match: f'<img src="{_inside(folder / match[1])}"', body)
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n{body}</body></html>\n'


def contents(markdown: str, parts_of: str) -> str:
    """A list of links to the sections of `markdown`, by the anchors that GitHub and `page` give to headings.

    parts_of: the section whose own parts are listed, too.
    """
    lines, section = ["## Contents\n"], ""
    for heading, title, anchor in _headings(_parsed(markdown)[1]):
        if heading.tag == "h2":
            section = title
            lines.append(f"- [{title}](#{anchor})")
        elif heading.tag == "h3" and section == parts_of:
            lines.append(f"  - [{title}](#{anchor})")
    return "\n".join(lines) + "\n"


def _parsed(markdown: str) -> tuple[MarkdownIt, list[Token]]:
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    return renderer, renderer.parse(markdown)


def _headings(tokens: list[Token]) -> Iterator[tuple[Token, str, str]]:
    """Each heading with its title and its anchor: in small letters, with hyphens, and a number from the second on."""
    seen: Counter[str] = Counter()
    for heading, inside in pairwise(tokens):
        if heading.type == "heading_open":
            title = "".join(part.content for part in inside.children or ())
            name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            yield heading, title, f"{name}-{seen[name]}" if seen[name] else name
            seen[name] += 1


def _inside(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")
