"""Output for people: two consoles, and text from outside (names, captions) shown as it is."""

from __future__ import annotations

import unicodedata

from rich.console import Console
from rich.text import Text

console = Console(stderr=True)
"""Messages for people. Results go to standard output, so that `--json` can be piped."""
out = Console()
"""Results."""


def plain(value: object, style: str = "") -> Text:
    """Return text that came from outside, so that none of it is markup or steers the terminal.

    Control characters are shown as escapes (a file's name may hold any), and so are bytes that are
    no UTF-8.
    """
    shown = "".join(c if c == "\n" or _is_shown(c) else _escaped(c) for c in str(value))
    return Text(shown, style=style)


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs")


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def say(text: str, style: str = "") -> None:
    """Print one message for people, whatever it holds, on one line of any length."""
    console.print(plain(text, style), soft_wrap=True)
