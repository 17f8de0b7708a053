"""Output for people: two consoles, and text from outside (names, captions) shown as it is."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from marc_core.display import visible
from marc_core.times import counted as counted


class Terminal(Console):
    """A console whose reader may go away (`| head`): that is raised, not an exit of its own."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError on: `clear_errors` knows how the command ends."""
        raise


console = Terminal(stderr=True)
"""Messages for people. Results go to standard output, so that `--json` can be piped."""
out = Terminal()
"""Results."""


def plain(value: object, style: str = "") -> Text:
    """Return text that came from outside, so that none of it is markup or steers the terminal."""
    return Text(visible(str(value)), style=style)


def say(text: str, style: str = "") -> None:
    """Print one message for people, whatever it holds, on one line of any length."""
    console.print(plain(text, style), soft_wrap=True)
