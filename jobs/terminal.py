"""Output for people: two consoles, and text from outside (names, captions) shown as it is."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from marc_core.display import visible

console = Console(stderr=True)
"""Messages for people. Results go to standard output, so that `--json` can be piped."""
out = Console()
"""Results."""


def plain(value: object, style: str = "") -> Text:
    """Return text that came from outside, so that none of it is markup or steers the terminal."""
    return Text(visible(str(value)), style=style)


def say(text: str, style: str = "") -> None:
    """Print one message for people, whatever it holds, on one line of any length."""
    console.print(plain(text, style), soft_wrap=True)
