"""Reads the two scores out of a judge's reply, or says that there are none. It never guesses.

The prompt asks for a first line with two numbers, so that line is read first, in the forms that judges give it. If it
has no scores, statements such as "Assistant 1: 8/10", "a score of 7 for Assistant 2" or "Output: (10, 4)" are read.
They count only if all statements in the reply agree on one score for each assistant. Everything else is unreadable:
prose, a refusal, one score, three numbers, numbers of the question, contradictions, and scores for single criteria.
"9,8" is unreadable, too: it may be two scores or one with a decimal comma. The draft of a reasoning model is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain

from optune.chat.reasoning import final_answer

LOWEST, HIGHEST = 1.0, 10.0  # the scale the judge is asked for
LONGEST = 50_000  # characters; statements are not looked for in a longer reply

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_FENCED = re.compile(r"```\w*\s*(.*?)```", flags=re.DOTALL)
_MARKUP = re.compile(r"[*`#]|(?<!\w)_+|_+(?!\w)")

_NUMBER = r"[0-9]{1,3}(?:\.[0-9]+)?"
_DECIMAL = rf"(?:{_NUMBER}(?![.,][0-9])|[0-9]{{1,3}},[0-9]{{1,2}}(?![0-9]))"  # behind a label, "7,5" is one number


def _score(name: str = "", total: str = "10", number: str = _DECIMAL) -> str:
    """A number under the group `score<name>`, and "/10" or "out of 10" behind it, if there is one, under `of<name>`."""
    return rf"(?P<score{name}>{number})(?:{_out_of(name, total)})?"


def _out_of(name: str = "", total: str = "10") -> str:
    return rf"\s*(?:/|out\s+of)\s*(?P<of{name}>{total})(?![0-9/]|[.,][0-9])"


def _patterns(*patterns: str) -> list[re.Pattern[str]]:
    return [re.compile(pattern, flags=re.IGNORECASE) for pattern in patterns]


# --- the first line: two scores and nothing else ---
_HEADING = r"(?:(?:the\s+)?(?:overall\s+)?(?:scores?|ratings?|evaluation)(?:\s+are)?\s*[:=]?\s*)?"
_HEADING_LINE = re.compile(r"(?:the\s+)?(?:overall\s+)?(?:scores?|ratings?|evaluation)\s*:", flags=re.IGNORECASE)
_AROUND = re.compile(r"""^(?:[-•]\s+)?["'“]?|["'”]?$""")  # a list's mark and quotation marks
_BETWEEN = r"(?:\s*(?:[,;|&]|and)\s*|\s+)"
_FIRST, _SECOND = _score("1", "100?", _NUMBER), _score("2", "100?", _NUMBER)
_PAIR = re.compile(rf"{_HEADING}[(\[]?\s*{_FIRST}{_BETWEEN}{_SECOND}\s*[)\]]?[.:;,]?", flags=re.IGNORECASE)
_SINGLE = re.compile(_FIRST)
_COMMA = re.compile(r"(?<![0-9.,])([0-9]{1,3}),([0-9]{1,2})(?![0-9]|[.,][0-9])")  # "9,8": two numbers, or one
_LABELLED_PAIR = re.compile(
    rf"[^\W\d_][^\n:=0-9]{{0,40}}[:=]\s*[(\[]?{_FIRST}{_BETWEEN}{_SECOND}[)\]]?[.;,]?", re.IGNORECASE
)

# --- statements anywhere: a label, words that say "score", and a number that nothing continues ---
_LABEL = r"(?:AI\s+)?(?:Assistant|Answer|Response|Model)\s*"
_ID = r"(?-i:[12AB])(?![0-9A-Za-z])"
_WHO = rf"{_LABEL}(?P<who>{_ID})"
_STOP = rf"$|\n|[),;(\]]|[.:](?:\s|$)|[-–—]\s|(?:and|while|but|for|to)\b|{_LABEL}{_ID}"
_ALONE = r"(?!\s*(?:,|and|or|to|[-–—])\s*[0-9])"  # "7 to 8" and "8 and 9, respectively" are not one score
_SCORED = rf"{_score()}(?=\s*(?:{_STOP})){_ALONE}"
_TEN = rf"(?P<score>{_DECIMAL}){_out_of()}{_ALONE}"  # "8/10" is a score whatever else follows
_FEW_WORDS = rf"(?:(?!{_LABEL}{_ID})[^\n.:;0-9]){{0,40}}?"
_NOT_THE_OTHERS = rf"(?!\s*(?:to|for)\s+{_LABEL}{_ID})"
_ABOUT_ONE = _patterns(
    rf"{_WHO}\s*(?:'s)?\s*(?:score|rating)?\s*[:=]\s*{_TEN}",
    rf"{_WHO}\s*:?\s*(?:'s)?\s*(?:overall\s+)?(?:score|rating)\s*(?:is|of|:|=)\s*(?:a\s+)?{_SCORED}",
    rf"{_WHO}{_FEW_WORDS}\ban?\s+(?:score|rating)\s+of\s+{_SCORED}{_NOT_THE_OTHERS}",
    rf"{_WHO}{_FEW_WORDS}\ban?\s+{_TEN}{_NOT_THE_OTHERS}",
    rf"{_WHO}\s+score[sd]\s+(?:an?\s+)?{_SCORED}",
    rf"(?:score|rating)\s+(?:of|for)\s+{_WHO}\s*(?:is|:|=)\s*{_SCORED}",
    rf"score\s+of\s+{_score()}\s+(?:to|for)\s+{_WHO}",
)
# "Assistant 1: 8" says what the number is only on the first line, or below a heading that does.
_BARE = re.compile(rf"{_WHO}\s*[:=]\s*{_SCORED}", flags=re.IGNORECASE)
_ANNOUNCED = re.compile(r"\b(?:scores?|ratings?|evaluation)\b[^\n]*:\s*$", flags=re.IGNORECASE)
_BOTH_OF_THEM = rf"\bboth\s+(?:assistants|{_LABEL}(?:1|A)\s+and\s+{_LABEL}(?:2|B)\b){_FEW_WORDS}"
_ABOUT_BOTH = _patterns(
    rf"{_BOTH_OF_THEM}\ban?\s+(?:score|rating)\s+of\s+{_SCORED}",
    rf"{_BOTH_OF_THEM}\ban?\s+{_TEN}",
)
_TOGETHER = _patterns(
    r"\bscores\b[^\n.0-9]{0,40}(?:is|are|:)\s*"
    rf"\(\s*{_score('1')}\s*,\s*{_score('2')}\s*\)",
    r"scores\s+(?:for|of)\s+Assistant\s*1\s+and\s+(?:Assistant\s*)?2\s+(?:are|:)\s*"
    rf"{_score('1')}\s+and\s+{_score('2')}",
)
# --- a part of a verdict: a score for one criterion, or one of several scores ---
_CRITERION = (
    r"(?:helpful|useful|relevan|accura|correct|detail|depth|clarity|clear|coheren|complet|concis|creativ|fluen|safe|styl|"
    r"tone|harmless|honest|factual|truthful|readab|format|gramma|logic|original|engag|instruction|consisten|faithful|"
    r"quality\s+of|thorough|structur|insight|precis|brevity|length)\w*"
)
_OF_CRITERION = re.compile(
    rf"\s*(?:for|in|on|regarding|in\s+terms\s+of)\s+(?:(?:its|the|their)\s+)?(?:\w+\s+)?{_CRITERION}", re.IGNORECASE
)
_CRITERION_HEADING = re.compile(
    rf"\W*(?:(?:\w+\W+){{0,3}}?{_CRITERION}(?:[ \t]+\w+){{0,3}}?\s*[:|(–—-]"
    rf"|(?:for|in|on|as\s+for|regarding|concerning)\s+(?:\w+\s+){{0,3}}?{_CRITERION}(?:[ \t]+\w+){{0,3}}?\s*,)",
    re.IGNORECASE,
)
_MORE = re.compile(
    rf"[^\n0-9]{{0,60}}?(?:[,;+&(]|\band\b|\bplus\b)\s*(?:an?\s+)?[0-9]{{1,3}}(?:[.,][0-9]+)?\s*(?:for|in|on)\s+"
    rf"(?!{_LABEL}{_ID}|the\s+(?:first|second|other))",
    flags=re.IGNORECASE,
)
# A judge that takes a verdict back: these words, and two scores behind them.
_REVISED = re.compile(
    r"\b(?:wait|hmm+|on\s+(?:further\s+)?reflection|on\s+second\s+thoughts?|reconsider\w*|re-?evaluat\w*|correct(?:ion|ing)|"
    r"revis\w+|adjust\w*|chang\w+|instead|final(?:ly)?|updated?|now)\b"
    rf"[^\n0-9]{{0,60}}?{_FIRST}(?:\s*[,;|]\s*|\s+){_SECOND}(?![0-9/%]|[.,][0-9]|\s*[a-z])",
    re.IGNORECASE,
)
_OUT_OF_TEN = re.compile(rf"(?<![0-9.,/]){_DECIMAL}{_out_of()}", flags=re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:can(?:not|'t|’t)|unable\s+to|will\s+not|won't)\s+(?:\w+\s+){0,2}?(?:provide|give|rate|score|assess|evaluate|judge|compare)",
    flags=re.IGNORECASE,
)


def parse_scores(reply: str | None) -> tuple[float, float] | None:
    """The scores of the first and the second answer shown, or None if the reply does not state them clearly."""
    reply = final_answer(reply)
    if not reply or _is_object(reply):
        return None
    text = _MARKUP.sub("", reply.translate(_FULL_WIDTH)).replace("’", "'")
    lines = [_AROUND.sub("", line.strip()) for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    scores = _first_line(lines[1:] if len(lines) > 1 and _HEADING_LINE.fullmatch(lines[0]) else lines)
    if not scores and len(text) <= LONGEST and not _REFUSAL.search(text):
        scores = _statements("\n".join(lines))
        scores = scores if _is_whole(scores, lines) else None
    return None if scores and _is_revised(scores, text) else scores


def _is_object(reply: str) -> bool:
    """Whether the reply is a JSON object, which was not asked for: its fields may be drafts, or criteria."""
    fenced = _FENCED.fullmatch(reply.strip())
    return (fenced[1] if fenced else reply).lstrip().startswith(("{", "[{"))


def _is_revised(scores: tuple[float, float], text: str) -> bool:
    """Whether the reply goes on to other scores."""
    later = _REVISED.search(text)
    return later is not None and (float(later["score1"]), float(later["score2"])) != scores


def is_of_criterion(line: str) -> bool:
    """Whether a line is headed by one criterion, as "Accuracy: ..." is, so that a verdict in it is a part of one."""
    return bool(_CRITERION_HEADING.match(_MARKUP.sub("", line[:200])))


def off_scale(scores: tuple[float, float]) -> bool:
    """Whether a score is outside the scale that was asked for. Such scores are still compared."""
    return not all(LOWEST <= score <= HIGHEST for score in scores)


def _first_line(lines: list[str]) -> tuple[float, float] | None:
    lines = _settled_commas(lines)
    if lines is None:
        return None
    if match := _PAIR.fullmatch(lines[0]):
        scores = _pair(match)
        return scores if _is_whole(scores, lines[1:]) else None
    if len(lines) > 1:
        first, second = _SINGLE.fullmatch(lines[0]), _SINGLE.fullmatch(lines[1])
        if first and second and first["of1"] == second["of1"] and not _SINGLE.fullmatch(lines[2] if lines[2:] else ""):
            return _on_a_scale(float(first["score1"]), float(second["score1"]))
    return None


def _settled_commas(lines: list[str]) -> list[str] | None:
    """The lines with each comma between digits read as a decimal point or a separator. None if it could be either.

    It is a decimal comma if a line has two such numbers and one of them ends in ",0", since 0 is no score. It separates
    two scores if one of them is a 10.
    """
    first, *rest = lines
    commas = _COMMA.findall(first)
    if not commas:
        return lines
    if len(commas) == 2 or (rest and _COMMA.sub("0", first).isdigit() and _single_of(rest[0])):
        second = _COMMA.findall(rest[0]) if len(commas) == 1 else []
        if (not second and len(commas) == 1) or any(not int(part) for _, part in commas + second):
            return [_COMMA.sub(r"\1.\2", line) for line in lines[:2]] + lines[2:]
        return None
    if len(commas) == 1 and "10" in commas[0]:
        return [_COMMA.sub(r"\1, \2", first), *rest]
    return None


def _single_of(line: str) -> bool:
    return bool(_SINGLE.fullmatch(_COMMA.sub(r"\1.\2", line)))


def _is_whole(scores: tuple[float, float] | None, others: list[str]) -> bool:
    """Whether no other line is a pair of different scores. Lists of criteria have such lines."""
    for line in others:
        pair = _PAIR.fullmatch(line) or _LABELLED_PAIR.fullmatch(line)
        if pair and (float(pair["score1"]), float(pair["score2"])) != scores:
            return False
    return True


def _pair(match: re.Match[str]) -> tuple[float, float] | None:
    """The two numbers on a line. None for "8/10" alone, and for scores out of different totals."""
    first, second, of_first, of_second = match["score1"], match["score2"], match["of1"], match["of2"]
    if of_first and of_second and of_first != of_second:
        return None
    return _on_a_scale(float(first), float(second))


def _on_a_scale(first: float, second: float) -> tuple[float, float] | None:
    """The two scores, or None if one is above 100: no judge's scale goes that far, so it is some other number."""
    return (first, second) if max(first, second) <= 100 else None


def _statements(text: str) -> tuple[float, float] | None:
    """The pair of scores that all statements in the reply agree on, or None."""
    said: dict[str, set[float]] = {"1": set(), "2": set()}
    named = _matches(_ABOUT_ONE, text)
    named += [match for match in _BARE.finditer(text) if _is_announced(text, match)]
    both, together = _matches(_ABOUT_BOTH, text), _matches(_TOGETHER, text)
    if _has_parts(text, [*named, *both, *together]):
        return None
    for match in named:
        who = {"A": "1", "B": "2"}.get(match["who"].upper(), match["who"])
        said[who].add(_value(match["score"]))
    for match in both:
        said["1"].add(_value(match["score"]))
        said["2"].add(_value(match["score"]))
    for match in together:
        said["1"].add(_value(match["score1"]))
        said["2"].add(_value(match["score2"]))
    if len(said["1"]) != 1 or len(said["2"]) != 1:
        return None
    scores = said["1"].pop(), said["2"].pop()
    return scores if max(scores) <= HIGHEST else None


def _matches(patterns: Iterable[re.Pattern[str]], text: str) -> list[re.Match[str]]:
    """What each pattern matches, pattern by pattern."""
    return list(chain.from_iterable(pattern.finditer(text) for pattern in patterns))


def _value(number: str) -> float:
    return float(number.replace(",", "."))


def _has_parts(text: str, statements: list[re.Match[str]]) -> bool:
    """Whether a statement is about one criterion, or the reply has scores that no statement accounts for."""
    spans = [match.span() for match in statements]
    for rating in _OUT_OF_TEN.finditer(text):
        if not any(start <= rating.start() < end for start, end in spans):
            return True
    return any(_is_part(text, *span) for span in spans)


def _is_part(text: str, start: int, end: int) -> bool:
    before = text[:start].splitlines()
    line = text[text.rfind("\n", 0, start) + 1 : start]
    heading = line if line.strip() else next((b for b in reversed(before) if b.strip() and not _BARE.match(b)), "")
    if _CRITERION_HEADING.match(heading[-200:]) and (line.strip() or heading.rstrip().endswith(":")):
        return True
    rest = text[end : end + 100]
    return bool(_OF_CRITERION.match(rest) or _MORE.match(rest))


def _is_announced(text: str, match: re.Match[str]) -> bool:
    """Whether the lines before say that scores follow, or there are none before."""
    before = text[: match.start()].splitlines()
    while before and _BARE.match(before[-1]):
        before.pop()
    return not before or bool(_ANNOUNCED.search(before[-1][-200:]))
