"""`marc search`, `ask`: what people ask of a memory. Neither needs Ray.

What came from a file name, a caption or a model is shown as it is, never read as markup.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

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
from jobs.terminal import out, plain, say
from marc_core.display import (
    line_head,
    pieces,
    recorded_column,
    saving,
    score_text,
    span,
    video_name,
)
from marc_core.errors import ConfigError

if TYPE_CHECKING:
    from marc_core.answer import Answer
    from marc_core.archive import SearchHit
    from marc_core.display import Thumbnails
    from marc_core.evidence import Citation

ThumbnailsOption = Annotated[
    Path | None, typer.Option("--thumbnails", help="Write the events' pictures to this folder.")
]
OptionsOption = Annotated[
    list[str] | None, typer.Option("--option", "-o", help="An option, in order A, B, ...")
]
ShownOption = Annotated[
    int | None, typer.Option("-k", help="Events to show the student.", show_default="3")
]
BudgetOption = Annotated[
    int | None, typer.Option(help="Visual tokens at most; 0 is one frame's.", show_default="0")
]
TemperatureOption = Annotated[
    float | None, typer.Option(help="0 takes the likeliest answer.", show_default="0")
]
SeedOption = Annotated[int | None, typer.Option(help="Makes sampling repeatable.")]
MaxTokensOption = Annotated[
    int | None, typer.Option(help="Tokens of an answer at most.", show_default="128")
]
Settings = Annotated[list[str] | None, setting("retrieve.hybrid=false")]


@with_filter()
def search(
    query: Annotated[
        str | None, typer.Argument(help="What to look for, in words.", show_default=False)
    ] = None,
    settings: Settings = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Look for events like this picture instead.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", help="Look for more like this event (its id) instead.")
    ] = None,
    memory: MemoryOption = None,
    limit: Annotated[int, typer.Option("-k", "--limit", min=1, help="Number of events.")] = 3,
    offset: Annotated[int, typer.Option(min=0, help="Events of the ranking to leave out.")] = 0,
    thumbnails: ThumbnailsOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    *,
    where: dict[str, Any],
) -> None:
    """Find the events that fit a description, a picture or another event, best first.

    Where words are found in what is said or written, the lines are shown with their own times.
    The score is the cosine between query and event (1 is equal, 0 unrelated); "by text" was found
    by its words alone.

    Example: marc search "a red circle moves left" --memory runs/memory -k 5

    Example: marc search '"mind the gap"' --kind speech --memory runs/memory
    """
    from marc_core.session import open_session

    overrides = [*memory_override(memory), *(settings or ())]
    if query is not None and "=" in query and (image or like):  # no words, but a setting
        query, overrides = None, [*overrides, query]
    with clear_errors():
        if [query, image, like].count(None) != 2:
            raise ConfigError(
                'A search looks for one of: words (marc search "a red circle"), a picture '
                "(--image FILE), an event (--like ID)."
            )
        session = open_session(preset=preset, files=config or (), overrides=overrides)
        hits = session.search(query, image=image, like=like, limit=limit, offset=offset, **where)
        pictures = save_thumbnails(hits, thumbnails, session.archive.thumbnails)
        session.close()
    if as_json:
        print_json([_plain(hit, picture) for hit, picture in zip(hits, pictures, strict=True)])
    elif hits:
        out.print(_hit_table(hits, hits.zone))
        print_pictures(pictures)
        if hits.note:
            say(hits.note, "yellow")
    if not hits:
        say(f"Nothing found. {hits.nothing}")


@with_filter()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    settings: Settings = None,
    memory: MemoryOption = None,
    option: OptionsOption = None,
    k: ShownOption = None,
    budget_tokens: BudgetOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    max_tokens: MaxTokensOption = None,
    samples: Annotated[int, typer.Option("-n", help="Answers to draw.")] = 1,
    thumbnails: ThumbnailsOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    *,
    where: dict[str, Any],
) -> None:
    """Answer a question from the memory and cite the events that it rests on.

    Example: marc ask "Which way does the red circle move?" -o left -o right --memory runs/memory
    """
    from marc_core.session import open_session

    with clear_errors():
        session = open_session(
            preset=preset,
            files=config or (),
            overrides=[*memory_override(memory), *(settings or ())],
        )
        reply = session.ask(
            question,
            options=option or (),
            k=k,
            budget_tokens=budget_tokens,
            temperature=temperature,
            seed=seed,
            max_tokens=max_tokens,
            n=samples,
            **where,
        )
        pictures = save_thumbnails(reply.citations, thumbnails, session.archive.thumbnails)
        session.close()
    if as_json:
        print_json(answer_to_json(reply.answer, pictures))
    else:
        print_answer(reply.answer, pictures, reply.zone)


def print_answer(answer: Answer, pictures: Sequence[Path | None], zone: str = "") -> None:
    """Print an answer with its citations, its token saving and where the time went.

    zone: in which wall clocks are shown.
    """
    for sample in answer.samples:
        out.print(plain(sample.text, "bold green"))
    out.print(_citation_table(answer, zone))
    print_pictures(pictures)
    steps = ", ".join(f"{name} {s * 1000:.0f} ms" for name, s in answer.timings_s.items())
    out.print(saving(answer))
    out.print(plain(steps, "dim"))
    if answer.warning:
        say(answer.warning, "yellow")


def answer_to_json(answer: Answer, pictures: Sequence[Path | None]) -> dict[str, Any]:
    """Return an answer as plain JSON values; thumbnails as file names."""
    plain = answer.to_json()
    plain["citations"] = [
        _plain(citation, picture)
        for citation, picture in zip(answer.citations, pictures, strict=True)
    ]
    return plain


def _plain(item: SearchHit | Citation, picture: Path | None) -> dict[str, Any]:
    fields = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    fields.pop("thumbnail", None)
    if "matches" in fields:
        fields["matches"] = [dataclasses.asdict(line) for line in fields["matches"]]
    return fields | ({"thumbnail": str(picture)} if picture else {})


def save_thumbnails(
    items: Sequence[SearchHit | Citation], folder: Path | None, thumbnails: Thumbnails
) -> list[Path | None]:
    """Write the events' pictures; return their files, None for an event without one.

    A file is named by the video and the event's id, so that videos of one name keep their own.
    """
    if folder is None:
        return [None] * len(items)
    folder.mkdir(parents=True, exist_ok=True)
    found = thumbnails([item.event_id for item in items])
    paths: list[Path | None] = []
    for item in items:
        stem = re.sub(r"[^\w.-]", "_", video_name(item.uri))[:80]
        path = folder / f"{stem}-{item.event_id.replace(':', '-')}.jpg"
        if picture := found.get(item.event_id):
            path.write_bytes(picture)
        paths.append(path if picture else None)
    return paths


def print_pictures(pictures: Sequence[Path | None]) -> None:
    """Print the files of the events' pictures, one a line, in the events' order."""
    for picture in pictures:
        if picture:
            out.print(plain(f"picture {picture}"), soft_wrap=True)


def _hit_table(hits: Sequence[SearchHit], zone: str) -> Table:
    clocks = recorded_column(hits, zone)
    table = Table("video", "event", "from", "to", *_recorded(clocks), "score", "text")
    for hit, recorded in zip(hits, clocks, strict=True):
        _add_row(table, hit, recorded, _said(hit))
    return table


def _said(hit: SearchHit) -> Text:
    """Return the lines that the search has found, its words in bold; else all of the text."""
    if not hit.matches:
        return plain(hit.text or "")
    lines = []
    for line in hit.matches:
        words = [plain(text, "bold" if is_word else "") for text, is_word in pieces(line)]
        lines.append(Text.assemble(plain(f"{line_head(hit, line)}\n", "dim"), *words))
    return Text("\n").join(lines)


def _citation_table(answer: Answer, zone: str) -> Table:
    clocks = recorded_column(answer.citations, zone)
    table = Table("video", "event", "from", "to", *_recorded(clocks), "score")
    for citation, recorded in zip(answer.citations, clocks, strict=True):
        _add_row(table, citation, recorded)
    return table


def _recorded(clocks: Sequence[Sequence[str]]) -> list[str]:
    """Return the title of the column of wall clocks, where there is one."""
    return ["recorded"] if any(clocks) else []


def _add_row(
    table: Table, item: SearchHit | Citation, recorded: Sequence[str], *more: Text
) -> None:
    start, end = span(item)
    number = str(int(item.event_id.rsplit(":", 1)[1]))
    cells = (video_name(item.uri), number, start, end, *recorded, score_text(item))
    table.add_row(*(plain(cell) for cell in cells), *more)
