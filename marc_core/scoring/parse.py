"""From a model's text to its answer: tags, letters, yes/no, numbers.

The rules favour no answer over a wrong guess: "A cat sits" holds no letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from marc_core.scoring.options import option_text

_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_OPEN_ANSWER = re.compile(r"<answer>\s*(.*)$", re.DOTALL)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]*)\}+")
_WORD_AFTER = r"(?=$|[\s.,;:!?)\]\"'*`}])"
_MARKER = re.compile(
    r"\b(?:answer|option|choice|choose|select|pick)\b(?:\s+(?:is|would be|should be))?"
    r"(?:\s+option)?\s*[:=：]?\s*[(\[\"'*`{]*([A-Za-z])" + _WORD_AFTER,
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"[(\[]\s*([A-Z])\s*[)\]]")
_LEADING = re.compile(r"^[(\[\"'*`]*([A-Za-z])\s*[.):：\]*](?=$|\s|\*)")
_ALONE = re.compile(r"^\W*([A-Za-z])\W*$")
_STANDALONE = re.compile(r"(?<![A-Za-z0-9'’.])([A-Z])(?![A-Za-z0-9'’])")
_ARTICLE_TAIL = re.compile(r"\s+(?!(?:because|since|as|due|is|was|and|or|for)\b)[A-Za-z]")
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def video_r1_answer(text: str) -> str:
    """Return what Video-R1 scores: the first <answer> block, or the whole text without one."""
    match = _ANSWER.search(text)
    return (str(match.group(1)).strip() if match else "") or text


def final_answer(text: str) -> str:
    """Return the answer part: the last <answer> block (closed or not), else what follows
    </think>, else the whole text; \\boxed{} is opened."""
    blocks = _ANSWER.findall(text)
    if blocks:
        answer = blocks[-1]
    elif open_block := _OPEN_ANSWER.search(text):
        answer = open_block.group(1)
    else:
        answer = text.rsplit("</think>", 1)[-1]
    boxed = _BOXED.findall(answer)
    return str(boxed[-1] if boxed else answer).strip()


def extract_letter(text: str, options: Sequence[str]) -> str | None:
    """Return the option letter that the text gives, or None.

    options: the labelled options; only their letters count, and their texts help where no
    letter is given. In order: the letter alone; after a marker ("Answer: C"); leading ("B. red");
    the only one in brackets; the whole text equal to one option; one standalone capital that is no
    article; exactly one option's text inside the answer.
    """
    answer = final_answer(text).strip().strip("*_` ")
    allowed = {chr(ord("A") + i) for i in range(len(options))}
    rules = (_by_itself, _after_marker, _leading, _in_brackets, _equal_option, _one_capital)
    for rule in rules:
        letter = rule(answer, options)
        if letter is not None and letter in allowed:
            return letter
    return _one_option_inside(answer, options)


def _by_itself(answer: str, options: Sequence[str]) -> str | None:
    match = _ALONE.match(answer)
    return match.group(1).upper() if match else None


def _after_marker(answer: str, options: Sequence[str]) -> str | None:
    letters = [m for m in _MARKER.finditer(answer) if not _is_article(answer, m.end(1))]
    return letters[-1].group(1).upper() if letters else None


def _leading(answer: str, options: Sequence[str]) -> str | None:
    match = _LEADING.match(answer)
    several = len(set(_BRACKETED.findall(answer))) > 1  # "(A) is wrong and so is (B)"
    return match.group(1).upper() if match and not several else None


def _in_brackets(answer: str, options: Sequence[str]) -> str | None:
    found = set(_BRACKETED.findall(answer))
    return str(found.pop()) if len(found) == 1 else None


def _equal_option(answer: str, options: Sequence[str]) -> str | None:
    same = [i for i, o in enumerate(options) if normalise(option_text(o)) == normalise(answer)]
    return chr(ord("A") + same[0]) if len(same) == 1 and normalise(answer) else None


def _one_capital(answer: str, options: Sequence[str]) -> str | None:
    letters = {
        m.group(1) for m in _STANDALONE.finditer(answer) if not _is_article(answer, m.end(1))
    }
    letters &= {chr(ord("A") + i) for i in range(len(options))}
    return letters.pop() if len(letters) == 1 else None


def _one_option_inside(answer: str, options: Sequence[str]) -> str | None:
    text = f" {normalise(answer)} "
    inside = [
        i for i, o in enumerate(options) if len(o) > 1 and f" {normalise(option_text(o))} " in text
    ]
    return chr(ord("A") + inside[0]) if len(inside) == 1 else None


def _is_article(text: str, end: int) -> bool:
    """True for "A"/"a"/"I" followed by another word: an article or pronoun, not an option.

    A lower-case letter other than these that is followed by a word is no option either.
    """
    letter = text[end - 1]
    if _ARTICLE_TAIL.match(text, end) is None:
        return False
    return letter in "AI" or letter.islower()


def normalise(text: str) -> str:
    """Return text in lower case, without punctuation at word edges, single-spaced."""
    words = (w.strip(".,;:!?\"'`()[]{}*") for w in text.lower().split())
    return " ".join(w for w in words if w)


def extract_yes_no(text: str) -> str | None:
    """Return "yes" or "no" by whole words: the first word, else the only one of the two."""
    words = [w.strip(".,;:!?\"'`()[]*") for w in final_answer(text).lower().split()]
    if words and words[0] in ("yes", "no"):
        return words[0]
    found = {w for w in words if w in ("yes", "no")}
    return found.pop() if len(found) == 1 else None


def first_word(text: str) -> str:
    """Return VSI-Bench's reading of an answer: its first word without a final full stop."""
    return final_answer(text).split(" ")[0].rstrip(".").strip()


def to_number(text: str) -> float | None:
    """Return the whole text as a number (thousands separators allowed), or None."""
    try:
        value = float(text.strip().replace(",", ""))
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


def numbers_in(text: str) -> list[float]:
    """Return every number in the text, in order."""
    found = (to_number(m.group()) for m in _NUMBER.finditer(text))
    return [n for n in found if n is not None]
