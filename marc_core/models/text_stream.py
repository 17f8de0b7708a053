"""The text of an answer while it grows, cut at stop texts, without what may still change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TextStream:
    """Turns token ids into text, piece by piece; the pieces joined are `text`.

    A piece is held back while it may still change: white space at the end, half a character, the
    beginning of a stop text.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(s for s in stop if s)
        self._given = ""
        self.text = ""
        self.stopped = False

    def push(self, ids: Sequence[int], *, last: bool = False) -> str:
        """Return what the text gains when it is that of `ids`, all tokens so far.

        `stopped` is set when a stop text has come; it is not part of the text. last: give
        everything, no token follows.
        """
        whole = str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).lstrip()
        found = [at for at in (whole.find(stop) for stop in self._stop) if at >= 0]
        if found:
            whole, self.stopped = whole[: min(found)], True
        self.text = whole.rstrip()
        safe = self.text if last or self.stopped else self._unchanging(whole)
        if not safe.startswith(self._given):
            return ""  # the tokenizer joined what it had given apart; the end settles it
        new = safe[len(self._given) :]
        self._given = safe
        return new

    def _unchanging(self, whole: str) -> str:
        held = max((_overlap(whole, stop) for stop in self._stop), default=0)
        return whole[: len(whole) - held].rstrip().rstrip("\ufffd").rstrip()


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
