"""The vocabulary: every word a prompt or a response of the sandbox can hold. Words are separated by single spaces."""

from __future__ import annotations

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animals": ("cat", "dog", "horse", "cow", "lion", "mouse", "bear", "wolf"),
    "fruits": ("apple", "pear", "plum", "grape", "lemon", "melon", "cherry", "peach"),
    "colours": ("red", "blue", "green", "yellow", "pink", "brown", "black", "white"),
    "tools": ("hammer", "saw", "drill", "knife", "axe", "rope", "nail", "brush"),
    "foods": ("bread", "rice", "soup", "cake", "cheese", "honey", "egg", "salt"),
    "clothes": ("hat", "coat", "shoe", "sock", "shirt", "scarf", "glove", "belt"),
}
NOUNS: tuple[str, ...] = tuple(word for members in CATEGORIES.values() for word in members)
CATEGORY_OF: dict[str, str] = {word: category for category, members in CATEGORIES.items() for word in members}

NUMBERS: tuple[str, ...] = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
    *("twenty-one", "twenty-two", "twenty-three", "twenty-four", "twenty-five", "twenty-six", "twenty-seven"),
)
VALUE_OF: dict[str, int] = {word: value for value, word in enumerate(NUMBERS)}
ORDINALS: tuple[str, ...] = ("first", "second", "third", "last")

_OPPOSITE_PAIRS: tuple[tuple[str, str], ...] = (
    *(("hot", "cold"), ("big", "small"), ("fast", "slow"), ("old", "young"), ("wet", "dry"), ("hard", "soft")),
    *(("rich", "poor"), ("happy", "sad"), ("light", "dark"), ("loud", "quiet"), ("full", "empty"), ("high", "low")),
    *(("thick", "thin"), ("strong", "weak"), ("clean", "dirty"), ("early", "late")),
)
OPPOSITE_OF: dict[str, str] = {a: b for pair in _OPPOSITE_PAIRS for a, b in (pair, pair[::-1])}
ADJECTIVES: tuple[str, ...] = tuple(OPPOSITE_OF)

_FOREIGN: tuple[str, ...] = (
    *("kato", "hundo", "cevalo", "bovo", "leono", "muso", "urso", "lupo"),
    *("pomo", "piro", "pruno", "vinbero", "citrono", "melono", "cerizo", "persiko"),
)
TRANSLATION_OF: dict[str, str] = dict(zip((*CATEGORIES["animals"], *CATEGORIES["fruits"]), _FOREIGN, strict=True))
NAMES: tuple[str, ...] = (
    *("tom", "anna", "ben", "clara", "david", "emma", "felix", "greta", "hugo", "ida"),
    *("jan", "kate", "leo", "maria", "nils", "olga", "paul", "rosa", "simon", "tina"),
)

COURTESIES: tuple[str, ...] = ("sure", "gladly", "certainly")
FILLERS: tuple[str, ...] = ("um", "well", "like", "basically")
PUNCTUATION: tuple[str, ...] = (",", ".", ":")
CONNECTIVES: tuple[str, ...] = ("and", "or", "the", "is", "of", "a")

_INSTRUCTION_WORDS: tuple[str, ...] = tuple(
    [
        "repeat",
        "reverse",
        "sort",
        "count",
        "list",
        "name",
        "translate",
        "add",
        "describe",
        "find",
        "say",
        "choose",
        "step",
        "replace",
        "pick",
        "these",
        "words",
        "numbers",
        "for",
        "but",
        "not",
        "opposite",
        "odd",
        "word",
        "times",
        "from",
        "to",
        "by",
    ]
)
VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            *PUNCTUATION,
            *COURTESIES,
            *FILLERS,
            *CONNECTIVES,
            *_INSTRUCTION_WORDS,
            *CATEGORIES,
            *NOUNS,
            *NUMBERS,
            *ORDINALS,
            *ADJECTIVES,
            *TRANSLATION_OF.values(),
            *NAMES,
        )
    )
)
