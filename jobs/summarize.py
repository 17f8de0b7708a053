"""`marc summarize`: what happens in a video, each sentence with its time. Needs no Ray."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.common import clear_errors, print_json
from jobs.filters import with_filter
from jobs.options import (
    ConfigOption,
    JsonOption,
    MemoryOption,
    PresetOption,
    memory_override,
    setting,
)
from jobs.terminal import counted, out, plain, say
from marc_core.display import video_name

if TYPE_CHECKING:
    from marc_core.summary import Summary


@with_filter(without=("video", "tags", "kinds"))
def summarize(
    video: Annotated[
        str | None,
        typer.Argument(help="Id, address or file name of a video.", show_default=False),
    ] = None,
    settings: Annotated[list[str] | None, setting("student.max_new_tokens=300")] = None,
    memory: MemoryOption = None,
    sentences: Annotated[int, typer.Option(min=1, max=100, help="Sentences at most.")] = 6,
    notes_tokens: Annotated[
        int, typer.Option(min=64, help="Tokens of the notes that the student reads, at most.")
    ] = 4096,
    preset: PresetOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    *,
    where: dict[str, Any],
) -> None:
    """Summarise a video, part of one, or the whole memory, from captions, speech and writing.

    Each sentence cites the time that it rests on. Captions come from `marc index ...
    text.captions=on`. The tiny preset's student writes no prose: it gives the notes themselves.

    Examples: marc summarize clip.mp4 --memory runs/memory;
    marc summarize clip.mp4 --from 60 --to 120 --memory runs/memory
    """
    from marc_core.session import open_session
    from marc_core.summary import summarize as make_summary

    overrides = [*memory_override(memory), *(settings or ())]
    if video is not None and "=" in video:  # no video, but a setting
        video, overrides = None, [*overrides, video]
    with (
        clear_errors(),
        open_session(preset=preset, files=config or (), overrides=overrides) as session,
    ):
        summary = make_summary(
            session,
            sentences=sentences,
            budget_tokens=notes_tokens,
            video=video,
            **where,
        )
    if video is None:
        whole = "all that passes the filter" if any(where.values()) else "the whole memory"
        say(f"No video is named: this is of {whole}.")
    if as_json:
        print_json(dataclasses.asdict(summary))
    else:
        print_summary(summary)


def print_summary(summary: Summary) -> None:
    """Print the prose, and the notes that it rests on."""
    if summary.text:
        out.print(plain(summary.text, "bold green"))
    else:
        say("The student writes no prose of its own. These are the notes, in order of time.")
    last = ""
    for note in summary.cited:
        if note.uri != last:
            out.print(plain(video_name(note.uri), "bold"))
            last = note.uri
        out.print(plain(f"  {note.time}  {note.kind}: {note.text}"), soft_wrap=True)
    if summary.left_out:
        say(f"Left out, because --notes-tokens holds no more: {counted(summary.left_out, 'note')}.")
    if summary.unfounded:
        say(f"Taken out, because they named no note: {counted(summary.unfounded, 'citation')}.")
