"""The enhancer's judge: what of a language model's answer may stand in place of a prompt. Imports no torch.

Tables that one can read and extend: what is cut off, what is taken off, what is refused. `judged` is pure, never
raises, and its own output passes it unchanged.
"""

import re
from collections.abc import Sequence
from typing import Final

MOST_WORDS: Final = 120
FEWEST_WORDS: Final = 3
LEAST_DISTINCT: Final = 0.7
"""Of a text's trigrams of words, how many differ; below, it repeats itself."""
LEAST_LETTERS: Final = 0.5
"""Of a text's characters that are no blanks."""

_ROUNDS: Final = 12


def _all(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


ENDS: Final = _all(
    r"<\|[^|>\n]{0,40}\|?>",  # <|im_end|> and its kin
    r"</?s>|\[/?INST\]|<</?SYS>>|</?(?:think|answer|assistant|user|system)>",
    r"(?:^|\n)\s*(?:user|human|assistant|system|idea|instruction)\s*:",  # the frame goes on
    r"\n\s*\W*(?:note|notes|explanation|negative prompt|tags|keywords)\b\W*:",
    r"(?:^|(?<=[.!?\n]))\s*\W?(?:let me know|feel free to|i hope (?:this|that|you)|would you like)\b",
    r"(?:^|(?<=[.!?\n]))\s*\W?this (?:\w+ )?(?:prompt|description) (?:\w+ ){0,2}(?:adds|aims|captures|keeps|is)\b",
)
"""Where the text is over: the first of them, and all that follows it, is cut off."""

_KIND: Final = (
    r"(?:enhanced|improved|detailed|rewritten|expanded|elaborated?|refined|final|revised|new|visual|vivid|image|video|"
    r"scene|photo|text)"
)
_THING: Final = r"(?:prompt|description|version|output|answer|result|response|rewrite)"
STRIPPED: Final = _all(
    r"\A(?:sure(?: thing)?|certainly|of course|absolutely|definitely|okay|ok|great|alright)\s*[!,.:]\s*",
    rf"\A(?:here(?:['’]s| is| are| you go)|below is|this is)\b[^:\n.]{{0,80}}?\b{_THING}\b[^:\n]{{0,80}}:\s*",
    r"\A(?:here(?:['’]s| is) (?:it|one|the (?:scene|image|picture))|here you go)\s*[:!.]\s*",
    rf"\A\W{{0,4}}(?:(?:an?|the|your)\s+)?(?:{_KIND}\s+){{0,3}}{_THING}\s*(?:\([^)\n]{{0,40}}\))?[\s*_]*:[\s*_]*",
    r"\A```\w{0,12}(?=\s)|```",
    r"(?m)^\s*(?:#{1,6}\s|>\s|[-*•]\s|\d{1,2}[.)]\s)",  # headings, quotations and lists
    r"\*\*|__|`",
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffd\ud800-\udfff]",
    r"\A[\s,;:.!?、。，]+",
    r"[\s,;:，、–—-]+\Z",
)
"""What is taken off, again and again until nothing is left of it."""

REFUSED: Final[Sequence[tuple[str, re.Pattern[str]]]] = [
    (reason, pattern)
    for reason, patterns in {
        "it refused": _all(
            r"\A\W*(?:i['’]?m|i am) (?:really |very |so )?(?:sorry|afraid|unable|not able)\b",
            r"\A\W*(?:sorry|unfortunately|apologies|my apologies|i apologi[sz]e)\b",
            r"\A\W*(?:but |however,? )?i (?:can['’]?t|can ?not|could ?n['’]t|won['’]?t|will not|do(?:n['’]t| not)) ",
            r"\bi (?:can['’]?t|can ?not|am unable to|won['’]?t|will not) (?:assist|comply|create|do|generate|help)",
            r"\bi (?:can['’]?t|can ?not|am unable to|won['’]?t|will not) (?:fulfil|provide|write)",
            r"\bas an? (?:ai|artificial intelligence|language model)\b|\bai (?:language )?model\b",
            r"\b(?:content|usage|safety) (?:policy|policies|guidelines)\b|\bmy (?:guidelines|programming)\b",
            r"抱歉|对不起|很遗憾|我无法|我不能|作为一个|申し訳",
        ),
        "it leaks its template": _all(
            r"<\||\|>|\bim_(?:start|end)\b|\bendoftext\b|\{\{|\}\}|\[(?:insert|your)\b",
            r"\byou are (?:an?|the) (?:helpful|expert|ai|assistant|prompt|skilled)",
            r"\A(?:system|user|assistant)\b",
            r"\b(?:rewrite|enhance|elaborate|improve|expand) (?:the|this|my|your) (?:\w+ )?(?:prompt|description)\b",
            r"\b(?:original|user['’]s|given) (?:prompt|description|idea)\b",
        ),
        "it is code or a link": _all(r"https?://|\bdef \w+\(|\bimport \w+\n|</?(?:div|p|html|body|script|br)\b"),
    }.items()
    for pattern in patterns
]
"""Reason → what gives it away."""

_QUOTES: Final = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "„": "“"}
_HAN: Final = "\u3040-\u30ff\u3400-\u9fff"
_WORD: Final = re.compile(rf"[{_HAN}]|(?:(?![{_HAN}])[^\W_])+(?:['’-](?:(?![{_HAN}])[^\W_])+)*")
_WIDE: Final = "，。；！？、"
_CLAUSE_END: Final = re.compile(rf"(?<=[,.;!?])\s+|(?<=[{_WIDE}])\s*(?=\S)")
_SMALL: Final = frozenset(
    re.findall(
        r"\w+",
        "a an the and or but of in on at by to for from with without into onto over under near is are was were be "
        "being been it its this that these those as his her their your my our some any very one there here while who "
        "which photo picture image video prompt",
    )
)
"""Words of a prompt that its subject does not hang on."""


def words(text: str) -> list[str]:
    """The words of a text in lower case; each Han character or kana is one."""
    return [word.lower() for word in _WORD.findall(text)]


def too_long(original: str) -> str | None:
    """Why a prompt is not enhanced at all: it is as elaborate already as the judge would let it become."""
    count = len(words(original))
    return (
        f"the prompt has {count} words already, and an enhanced one may have {MOST_WORDS}"
        if count > MOST_WORDS
        else None
    )


def judged(original: str, raw: str, *, finished: bool = True) -> tuple[str | None, str | None]:
    """Return what of `raw` may stand in place of `original`, or None and the reason why nothing may.

    One paragraph of at most MOST_WORDS words that keeps the original's; where it does not, the original stands before
    it. `finished` says that the model came to its own end; otherwise the last clause is not whole and goes.
    """
    reason = too_long(original)
    if reason is not None:
        return None, reason
    text = _cut_off(raw)
    if not finished:
        text = _whole_clauses(text)
        if raw.strip() and not text:
            return None, "it was cut off before its first clause was whole"
    for _ in range(_ROUNDS):
        before = text
        text = _without_repeats(_stripped(_cut_off(before)))
        reason = _refusal(text)
        if reason is not None:
            return None, reason
        text = _shortened(_with_subject(original, text))
        if words(text) == words(original):
            return None, "it adds nothing"
        if text == before:
            return text, None
    return None, "it is never clean"


def _cut_off(text: str) -> str:
    text = text.replace("\r", "\n")
    text = re.sub(r"\A\s*<think>.*?</think>", "", text, flags=re.DOTALL | re.IGNORECASE)
    starts = [found.start() for pattern in ENDS if (found := pattern.search(text)) is not None]
    return text[: min(starts)] if starts else text


def _stripped(text: str) -> str:
    text = text.strip()
    for pattern in STRIPPED:
        text = pattern.sub("", text).strip()
    return re.sub(r"\s+", " ", _unquoted(text))


def _unquoted(text: str) -> str:
    closing = _QUOTES.get(text[:1])
    if closing is None:
        return text
    inside = text[1:]
    if inside.endswith(closing):
        return inside[:-1] if closing not in inside[:-1] else text
    line, _, _ = inside.partition("\n")
    if line.rstrip().endswith(closing) and closing not in line.rstrip()[:-1]:
        return line.rstrip()[:-1]
    return inside if closing not in inside else text


def _clauses(text: str) -> list[str]:
    return [clause for clause in _CLAUSE_END.split(text) if clause]


def _joined(clauses: Sequence[str]) -> str:
    return "".join(clause if clause.endswith(tuple(_WIDE)) else f"{clause} " for clause in clauses).rstrip()


def _without_repeats(text: str) -> str:
    seen: set[tuple[str, ...]] = set()
    kept: list[str] = []
    for clause in _clauses(text):
        key = tuple(words(clause))
        if not key or key not in seen:
            kept.append(clause)
        seen.add(key)
    return _joined(kept)


def _whole_clauses(text: str) -> str:
    """Without the last clause, unless it is closed."""
    text = text.rstrip()
    return text if text.endswith((*",.;!?", *_WIDE)) else _joined(_clauses(text)[:-1])


def _refusal(text: str) -> str | None:
    for reason, pattern in REFUSED:
        if pattern.search(text):
            return reason
    found = words(text)
    if not found:
        return "it gave no text"
    if len(found) < FEWEST_WORDS:
        return f"it gave fewer than {FEWEST_WORDS} words"
    solid = [character for character in text if not character.isspace()]
    if sum(character.isalpha() for character in solid) < LEAST_LETTERS * len(solid):
        return "it is mostly no letters"
    trigrams = list(zip(found, found[1:], found[2:], strict=False))
    if len(set(trigrams)) < LEAST_DISTINCT * len(trigrams):
        return "it repeats itself"
    return None


def _with_subject(original: str, text: str) -> str:
    """The original before the text, where a word of it was lost."""
    there = words(text)
    wanted = {word[:4] for word in words(original) if word not in _SMALL}
    if all(any(word.startswith(stem) for word in there) for stem in wanted):
        return text
    before = re.sub(r"\s+", " ", original).strip().rstrip(",;:.。，")
    return f"{before}, {text}" if before else text


def _shortened(text: str) -> str:
    """At most MOST_WORDS words: its first whole clauses, or where the first is longer, its first words."""
    kept: list[str] = []
    count = 0
    for clause in _clauses(text):
        count += len(words(clause))
        if count > MOST_WORDS:
            break
        kept.append(clause)
    else:
        return text
    if not kept:
        place = list(_WORD.finditer(text))[MOST_WORDS - 1].end()
        return text[:place]
    return _joined(kept).rstrip(" ,;:，、")
