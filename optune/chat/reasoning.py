"""What a reply says once the model has stopped thinking: scratch text is taken out, whatever the model marks it with.

Reasoning models put drafts before their answer. Endpoints with a reasoning parser leave them out; others send them in
the text, marked in each family's own way. A draft must never be read as the answer: where one begins and does not
end, or ends and nothing follows, there is no answer.
"""

from __future__ import annotations

import re

_THOUGHT = (
    r"(?:[\w:.-]{0,20}(?:think|thought|reason|reflect|scratch|monolog|deliberat)[\w:.-]{0,12}|analysis|internal|cot)"
)
_OPEN, _CLOSE = r"(?:<|&lt;|＜)", r"(?:>|&gt;|＞)"
# Begin and end of a draft, of any family; one may be closed by another's mark (some models mix them).
_BEGIN = re.compile(
    rf"{_OPEN}\|?\s*{_THOUGHT}(?:\s[^<>\n]{{0,80}})?\|?{_CLOSE}"  # <think>, <seed:think>, <thinking type="x">
    rf"|{_OPEN}details\b[^<>\n]{{0,80}}{_CLOSE}"  # how chat pages fold a draft away
    r"|<[|｜](?:begin|start)[_▁]of[_▁](?:thoughts?|think(?:ing)?)[|｜]>|<\|START_THINKING\|>|<\|inner_prefix\|>"
    r"|[\[{](?:think|thinking|thoughts?|reasoning)[\]}]|\\think\s*\{"
    r"|◁\s*think(?:ing)?\s*▷|<unused94>|<\|channel>\s*(?:thought|analysis)\b",
    flags=re.IGNORECASE,
)
_END = re.compile(
    rf"{_OPEN}\s*/\s*\|?\s*{_THOUGHT}\s*\|?{_CLOSE}|{_OPEN}\|/\s*{_THOUGHT}\|{_CLOSE}|{_OPEN}\s*/\s*details\s*{_CLOSE}"
    r"|<[|｜]end[_▁]of[_▁](?:thoughts?|think(?:ing)?)[|｜]>|<\|END_THINKING\|>|<\|inner_suffix\|>"
    r"|[\[{]/\s*(?:think|thinking|thoughts?|reasoning)[\]}]"
    r"|◁\s*/\s*think(?:ing)?\s*▷|<unused95>|<channel\|>",
    flags=re.IGNORECASE,
)
# The end comes first: `<|end_of_thought|>` has the form of a begin, too.
_MARK = re.compile(f"(?P<end>{_END.pattern})|(?P<begin>{_BEGIN.pattern})", flags=re.IGNORECASE)
_FENCE = re.compile(
    r"^(```+|~~~+)\s*(?:think|thinking|thoughts?|reasoning|scratch_?pad)\b[^\n]*\n(.*?)^\1", re.M | re.S
)
_OPEN_FENCE = re.compile(r"^(?:```+|~~~+)\s*(?:think|thinking|thoughts?|reasoning|scratch_?pad)\b", re.M | re.I)

# A block of any other name that opens a reply (<plan>, <rationale>, <tool_call>), and comments. HTML and what families
# put around the answer itself are no such names.
_ANSWER_NAMES = (
    r"answers?|final_?answer|final|responses?|output|solution|conclusion|verdict|scores?|ratings?|grade|result|choice|"
    r"judg\w*|evaluation|review|reply"
)
_HTML = r"a|b|i|u|p|s|br|hr|em|strong|sub|sup|code|pre|div|span|[uo]l|li|table|t[rdh]|t(?:body|head)|h\d"
_BLOCK = re.compile(
    rf"\s*<(?!(?:{_ANSWER_NAMES}|{_HTML})[\s>])(?P<name>[^\W\d][\w:.-]{{0,30}})(?:\s[^<>\n]{{0,80}})?>(?P<draft>.*?)"
    r"(?:</\s*(?P=name)\s*>|(?P<open>\Z))",
    re.DOTALL | re.IGNORECASE,
)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)

# Harmony: named channels; only `final` is meant for the reader. With the special tokens stripped, the names stay.
_CHANNEL = re.compile(
    r"<\|channel\|>\s*([a-z]+)(?:[^<\n]*(?:<\|constrain\|>[^<]*)?<\|message\|>)?", flags=re.IGNORECASE
)
_HARMONY = re.compile(r"<\|(?:channel|start|message)\|>", flags=re.IGNORECASE)
_HARMONY_END = re.compile(r"<\|(?:end|return|call|start)\|>", flags=re.IGNORECASE)
_BARE_CHANNEL = re.compile(r"\s*(?:assistant)?(?:analysis|commentary)(?=[A-Z\"'(0-9])")
_BARE_FINAL = re.compile(r"assistant\s*final(?!\w*\s+(?:score|answer|verdict))", flags=re.IGNORECASE)

# Plain headings, as in "Here is my thought process: ... Here is my response: ...".
_WEIGHT = r"(?:[#>*_\s]|\d+[.)])*"
_HEADING = re.compile(
    rf"{_WEIGHT}(?:(?:here\s+(?:is|are)|here'?s)\s+(?:my|the|a)\s+)?"
    r"(?:(?:thought|thinking|reasoning)\s+process|think(?:ing)?|thoughts?|chain[\s-]of[\s-]thought|scratch\s?pad|reasoning"
    r"|internal\s+monologue|draft)"
    r"\s*(?:\.{3}|…)?[*_\s]*(?::|\n)",
    flags=re.IGNORECASE,
)
_ANSWER_HEADING = re.compile(
    rf"(?:^|\n|(?<=[.!?])\s){_WEIGHT}(?:(?:(?:here\s+(?:is|are)|here'?s)\s+(?:my|the)\s+)"
    r"(?:final\s+)?(?:response|answer|verdict|rating|ratings|scores?|evaluation|output)"
    r"|final\s+(?:response|answer|verdict|rating|ratings|scores?|evaluation|output)"
    r"|(?:response|answer|output|verdict|conclusion))[*_\s]*:"
    r"|\n(?:\.{3}|…)\s*done\s+thinking\.?",
    flags=re.IGNORECASE,
)
# What some families put around the answer itself.
_AROUND = re.compile(
    r"<\|(?:(?:begin|start|end)_of_(?:solution|answer)|(?:START|END)_(?:RESPONSE|ACTION)|im_end|eot_id|end|return|assistant|(?:begin|end)_of_box)\|>"
    r"|</?\s*(?:answer|final_answer|final|response|output|solution|conclusion)\s*>|\[/?(?:answer|response|final)\]"
    r"|\\boxed\{([^{}]*)\}",
    flags=re.IGNORECASE,
)


def final_answer(reply: str | None) -> str | None:
    """The reply without its drafts; None where a draft does not end, or nothing follows it.

    A reply without any draft comes back as it is.
    """
    if reply is None:
        return None
    for without in (_without_channels, _without_marked, _without_blocks, _without_headed):
        shorter = without(reply)
        if shorter is None:
            return None
        if shorter != reply:
            reply = _AROUND.sub(lambda mark: mark[1] or "", shorter).strip()
    return reply


def certain_part(reply: str | None) -> str | None:
    """What a reply that was cut off says whatever would have followed: its first line, if that is whole.

    The last word may be a beginning ("8 1" of "8 10"), and what comes later may take a statement back.
    """
    answer = (final_answer(reply) or "").lstrip()
    line, ended, _ = answer.partition("\n")
    return line if ended else None


def _without_channels(reply: str) -> str | None:
    """The last `final` channel of a reply in harmony's form, with or without its special tokens."""
    if _HARMONY.search(reply):
        finals = [found for found in _CHANNEL.finditer(reply) if found[1].lower() == "final"]
        if not finals:
            return None
        return _HARMONY_END.split(reply[finals[-1].end() :], maxsplit=1)[0]
    if _BARE_CHANNEL.match(reply):
        *_, last = ["", *_BARE_FINAL.split(reply)[1:]]
        return last if last.strip() else None
    return reply


def _without_marked(reply: str) -> str | None:
    """Drafts between marks are taken out, the innermost first; all before an end without a begin is draft as well."""
    reply = _FENCE.sub("", reply)
    if _OPEN_FENCE.search(reply):
        return None
    kept: list[str] = [""]  # the text on each level of nesting; the last is the innermost
    place = 0
    for mark in _MARK.finditer(reply):
        kept[-1] += reply[place : mark.start()]
        place = mark.end()
        if mark["begin"]:
            kept.append("")
        elif len(kept) > 1:
            kept.pop()
        else:
            kept = [""]
    if len(kept) > 1:
        return None
    kept[-1] += reply[place:]
    return kept[0] if place == 0 or kept[0].strip() else None


def _without_blocks(reply: str) -> str | None:
    """A reply that opens with blocks of any name, without them; None where one does not end, or nothing follows."""
    rest = _COMMENT.sub("", reply)
    while block := _BLOCK.match(rest):
        if block["open"] is not None:
            return None
        rest = rest[block.end() :]
    return reply if rest == reply else rest if rest.strip() else None


def _without_headed(reply: str) -> str | None:
    """A reply that begins with a heading for its thoughts: what follows the last heading of the answer."""
    if not _HEADING.match(reply):
        return reply
    headings = list(_ANSWER_HEADING.finditer(reply))
    last = reply[headings[-1].end() :] if headings else ""
    return last if last.strip(" \n\t*_") else None
