"""What is said where footage meets an encoder that does not know it, such as the tiny preset's."""

from __future__ import annotations

import shlex

TINY_LINE = (
    "These videos are footage, and the encoder knows only the synthetic world. What works: events, "
    "times, what is said and written, filters. Search by what is seen needs a real encoder, and "
    "answers a real student: "
)


def remedy(memory: str) -> str:
    """Return the command that gives a memory an encoder that knows footage."""
    return f"marc index --only embeddings --preset footage --memory {shlex.quote(memory)}"


def index_line(memory: str) -> str:
    """Return the line that `marc index` ends with where the encoder does not know what was
    indexed."""
    return f"{TINY_LINE}{remedy(memory)}"


def search_note(memory: str) -> str:
    """Return what stands below results of an encoder that does not know footage."""
    return (
        "Footage was ranked by its text alone; where a visual score is shown, it means nothing: "
        "this encoder knows only the synthetic world. A real one takes its place by: "
        f"{remedy(memory)}"
    )


ANSWER_WARNING = (
    "This answer rests on footage, and the student knows only the synthetic world: what it says of "
    "footage means nothing. A real student takes its place by: marc index ARCHIVE --preset "
    "qwen2.5-vl-3b"
)
"""What stands below an answer about footage of a student that was not trained on any."""


def nothing_said(memory: str) -> str:
    """Return why a search by words found nothing in footage that the encoder does not know."""
    return (
        "Nothing that is said or written matches, and the encoder knows only the synthetic world, "
        "so footage cannot be found by what is seen. A real one takes its place by: "
        f"{remedy(memory)}"
    )
