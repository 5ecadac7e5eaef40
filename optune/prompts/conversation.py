"""Which turns a row of a file asks: every other module takes prompts from here.

That holds for the policy, the reward model, offline pairs, model outputs, studies and judges. A turn or column that
holds part of a question is either used, or its row is refused with an error. Nothing is dropped silently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from optune.types import Message, Prompt, UserError
from optune.utils.files import NOT_JSON

# Columns that hold what is asked, one of which a row must have: text, a chat, a ShareGPT or LIMA chat, Alpaca's.
ASKING = ("prompt", "messages", "conversations", "instruction")
# Columns that add to it.
ADDING = ("input", "system")
# ShareGPT's names of the roles.
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def conversation_of(row: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    """The turns to be answered: all up to the last user turn. A final assistant turn is an answer and left out.

    Raises UserError, naming `where`, for a row that asks nothing, or whose columns ask different things.
    """
    asking = {name: row[name] for name in ASKING if present(row.get(name))}
    if not asking:
        if any(isinstance(row.get(name), str) for name in ASKING):
            raise UserError(f"{where}: the prompt is empty.")
        given = ", ".join(map(str, row)) or "none"
        raise UserError(f"{where}: no column `prompt` or `messages` (found: {given}).")
    if set(asking) == {"prompt", "messages"} and isinstance(asking["prompt"], str):
        turns = _prompt_beside_messages(asking["prompt"], asking["messages"], where)
    else:
        versions = {name: _turns_of(name, value, where) for name, value in asking.items()}
        turns = next(iter(versions.values()))
        unlike = [name for name, other in versions.items() if other != turns]
        if unlike:
            raise UserError(
                f"{where}: `{next(iter(versions))}` and `{unlike[0]}` ask different things; keep one of them."
            )
    return _with_additions(turns, row, where)


def asks_first_turn_alone(row: Mapping[str, Any]) -> bool:
    """Whether `messages` begins with `prompt` (UltraChat) and goes on with questions that are not asked."""
    prompt, messages = row.get("prompt"), row.get("messages")
    if not (isinstance(prompt, str) and present(prompt) and isinstance(messages, list)):
        return False
    questions = [turn for turn in messages if isinstance(turn, Mapping) and turn.get("role") == "user"]
    return len(questions) > 1 and questions[-1].get("content") != prompt


def transcript(prompt: Prompt) -> str:
    """A prompt as a judge or a rater reads it: its text, or all turns with their roles where there are several."""
    if not prompt.messages:
        return prompt.text
    return "\n\n".join(f"[{turn['role'].capitalize()}]\n{turn['content']}" for turn in prompt.messages)


def turns_of_chat(value: Any, where: str) -> tuple[Message, ...]:
    """All turns of a chat as {role, content}. Raises UserError for content that is not text, such as a picture."""
    if not isinstance(value, list | tuple) or not all(isinstance(turn, Mapping) for turn in value):
        raise UserError(f"{where}: a chat is a list of {{role, content}} objects with text in both.")
    return tuple(_turn(turn, where) for turn in value)


def present(value: Any) -> bool:
    """Whether a cell holds a value. Null, NaN, an empty text and an empty list are none; 0 is one."""
    if isinstance(value, float):
        return not math.isnan(value)
    return value is not None and (not isinstance(value, str | bytes | list | tuple | dict) or len(value) > 0)


def _turns_of(name: str, value: Any, where: str) -> tuple[Message, ...]:
    if isinstance(value, str) and name != "messages":
        return ({"role": "user", "content": value},)
    if isinstance(value, str):
        value = _json_chat(value, where)
    if isinstance(value, list | tuple) and value and all(isinstance(turn, str) for turn in value):
        value = _alternating(name, value, where)
    return _to_be_answered(turns_of_chat(value, where), where)


def _alternating(name: str, texts: Sequence[str], where: str) -> list[Message]:
    """LIMA's form: questions and answers in turn. A `prompt` of several texts is MT-Bench's: several questions."""
    if name != "conversations" and len(texts) > 1:
        raise UserError(
            f"{where}: `{name}` lists {len(texts)} questions, the later of which need the answers to the earlier ones; "
            "give one question a row (python -m eval.mt_bench asks turn by turn)."
        )
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def _prompt_beside_messages(prompt: str, messages: Any, where: str) -> tuple[Message, ...]:
    """`messages` where its last user turn is `prompt`; `prompt` alone where a dialogue begins with it (UltraChat)."""
    turns = _turns_of("messages", messages, where)
    if turns[-1]["content"] == prompt:
        return turns
    if next(turn for turn in turns if turn["role"] == "user")["content"] == prompt:
        return ({"role": "user", "content": prompt},)
    raise UserError(f"{where}: `prompt` is neither the first nor the last user turn of `messages`; keep one of them.")


def _with_additions(turns: tuple[Message, ...], row: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    """Alpaca's `input` below the instruction, and a `system` text before the first turn."""
    for name in ADDING:
        if present(row.get(name)) and not isinstance(row[name], str):
            raise UserError(f"{where}: `{name}` must be a text.")
    if present(row.get("input")):
        if "instruction" not in row or len(turns) > 1:
            raise UserError(
                f"{where}: `input` belongs to an `instruction`; put it into the prompt, or remove the column."
            )
        turns = ({"role": "user", "content": f"{turns[0]['content']}\n\n{row['input']}"},)
    if present(row.get("system")):
        if turns[0]["role"] == "system" and turns[0]["content"] != row["system"]:
            raise UserError(f"{where}: `system` and the chat's own system turn are different; keep one of them.")
        others = turns[1:] if turns[0]["role"] == "system" else turns
        turns = ({"role": "system", "content": row["system"]}, *others)
    return turns


def _turn(turn: Mapping[str, Any], where: str) -> Message:
    # Tables of several data sets have all of these columns, and null in those that a row has not.
    role, content = turn.get("role"), turn.get("content")
    content = turn.get("value") if content is None else content
    if role is None and turn.get("from") is not None:
        role = turn["from"]
        if not isinstance(role, str) or role not in SHAREGPT:
            raise UserError(f"{where}: a turn is from {role!r}; known are {', '.join(SHAREGPT)}.")
        role = SHAREGPT[role]
    if present(turn.get("tool_calls")) or present(turn.get("function_call")):
        raise UserError(f"{where}: a turn calls a tool, which cannot be asked here; leave the row out.")
    if isinstance(content, list | tuple) and content and all(isinstance(part, Mapping) for part in content):
        content = _text_of_parts(content, where)
    if not isinstance(role, str) or not isinstance(content, str):
        raise UserError(f"{where}: a chat is a list of {{role, content}} objects with text in both.")
    return {"role": role, "content": content}


def _text_of_parts(parts: Sequence[Mapping[str, Any]], where: str) -> str:
    """The text of a content given in parts, as OpenAI's endpoints take it. UserError for a picture or a sound."""
    foreign = next((part.get("type") for part in parts if not isinstance(part.get("text"), str)), None)
    if foreign is not None:
        raise UserError(f"{where}: a turn holds a part of type {foreign!r}; only text can be asked.")
    return "\n".join(part["text"] for part in parts)


def _to_be_answered(turns: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    """All up to the last user turn; only an assistant's answer may follow it."""
    end = len(turns)
    while end and turns[end - 1]["role"] == "assistant":
        end -= 1
    if not any(turn["role"] == "user" for turn in turns[:end]):
        raise UserError(f"{where}: the chat has no user turn to answer.")
    if turns[end - 1]["role"] != "user":
        last = turns[end - 1]["role"]
        raise UserError(f"{where}: the last turn to be answered is {last!r}, not the user's; leave the row out.")
    return turns[:end]


def _json_chat(text: str, where: str) -> Any:
    """A chat that a table without nested columns holds as JSON text."""
    try:
        return json.loads(text)
    except NOT_JSON:
        raise UserError(f"{where}: `messages` is text, but no JSON list of {{role, content}} objects.") from None
