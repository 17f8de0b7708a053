"""`marc search`, `ask`: what people ask of a memory. Neither needs Ray."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jobs.common import clear_errors, console, print_json, suit_small_models
from jobs.options import (
    Args,
    ConfigOption,
    JsonOption,
    MemoryOption,
    PresetOption,
    config_for_memory,
    quoted,
)
from marc_core.config import AskConfig

if TYPE_CHECKING:
    from marc_core.archive import SearchHit
    from marc_core.types import Answer, Citation

out = type(console)()

KOption = Annotated[int | None, typer.Option("-k", help="Number of events.", show_default="3")]
VideoOption = Annotated[str | None, typer.Option("--video", help="Only this video (id or uri).")]
CameraOption = Annotated[str | None, typer.Option("--camera", help="Only this camera.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="Only events with this tag.")]
FromOption = Annotated[float | None, typer.Option("--from", help="Only after this second.")]
ToOption = Annotated[float | None, typer.Option("--to", help="Only before this second.")]
ThumbnailsOption = Annotated[
    Path | None, typer.Option("--thumbnails", help="Write the events' pictures to this folder.")
]


def search(
    query: Annotated[str, typer.Argument(help="What to look for, in words.")],
    settings: Args = None,
    memory: MemoryOption = None,
    k: KOption = None,
    video: VideoOption = None,
    camera: CameraOption = None,
    tag: TagOption = None,
    from_s: FromOption = None,
    to_s: ToOption = None,
    thumbnails: ThumbnailsOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the events that fit a description, best first.

    Example: marc search "a red circle moves left" --memory runs/memory -k 5
    """
    from marc_core.answer import find_events
    from marc_core.embed import load_encoder

    with clear_errors():
        overrides = _filters(video, camera, tag, from_s, to_s, k) + (settings or [])
        resolved, store = config_for_memory(AskConfig, memory, preset, config, overrides)
        resolved = dataclasses.replace(resolved, question=query)
        suit_small_models(resolved.encoder.model)
        hits = find_events(
            query, store=store, encoder=load_encoder(resolved.encoder), config=resolved
        )
    pictures = save_thumbnails(hits, thumbnails)
    if as_json:
        print_json([_plain(hit, picture) for hit, picture in zip(hits, pictures, strict=True)])
    else:
        out.print(_hit_table(hits, pictures))


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    settings: Args = None,
    memory: MemoryOption = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="An option, in order A, B, ...")
    ] = None,
    k: KOption = None,
    video: VideoOption = None,
    camera: CameraOption = None,
    tag: TagOption = None,
    from_s: FromOption = None,
    to_s: ToOption = None,
    thumbnails: ThumbnailsOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from the memory and cite the events that it rests on.

    Example: marc ask "Which way does the red circle move?" -o left -o right --memory runs/memory
    """
    from marc_core.answer import answer_question
    from marc_core.embed import load_encoder
    from marc_core.models.loading import load_student

    with clear_errors():
        overrides = _filters(video, camera, tag, from_s, to_s, k) + (settings or [])
        resolved, store = config_for_memory(AskConfig, memory, preset, config, overrides)
        resolved = dataclasses.replace(resolved, question=question, options=tuple(option or ()))
        suit_small_models(resolved.student.model)
        answer = answer_question(
            question,
            store=store,
            encoder=load_encoder(resolved.encoder),
            student=load_student(resolved.student),
            config=resolved,
        )
    pictures = save_thumbnails(answer.citations, thumbnails)
    if as_json:
        print_json(answer_to_json(answer, pictures))
    else:
        print_answer(answer, pictures)


def print_answer(answer: Answer, pictures: list[Path | None]) -> None:
    """Print an answer with its citations, its token saving and where the time went."""
    out.print(f"[bold green]{answer.text}[/bold green]")
    out.print(_citation_table(answer))
    if shown := [str(picture) for picture in pictures if picture]:
        out.print("pictures", *shown, markup=False, highlight=False, soft_wrap=True)
    saved = 1 - answer.visual_tokens / max(answer.visual_tokens_before, 1)
    steps = ", ".join(f"{name} {s * 1000:.0f} ms" for name, s in answer.timings_s.items())
    out.print(
        f"{answer.visual_tokens} visual tokens instead of {answer.visual_tokens_before} "
        f"({saved:.1%} saved), features {answer.features}, events {answer.retrieval}"
    )
    out.print(f"[dim]{steps}[/dim]")


def answer_to_json(answer: Answer, pictures: list[Path | None]) -> dict[str, Any]:
    """Return an answer as plain JSON values; thumbnails as file names."""
    plain = {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer)}
    plain["citations"] = [
        _plain(citation, picture)
        for citation, picture in zip(answer.citations, pictures, strict=True)
    ]
    return plain


def _filters(video, camera, tags, from_s, to_s, k) -> list[str]:
    named = {"only_video": video, "camera": camera}
    found = [f"{key}={quoted(value)}" for key, value in named.items() if value is not None]
    numbers = {"start_s": from_s, "end_s": to_s, "retrieve.k": k}
    found += [f"{key}={value}" for key, value in numbers.items() if value is not None]
    return found + ([f"tags=[{', '.join(quoted(t) for t in tags)}]"] if tags else [])


def _plain(item: SearchHit | Citation, picture: Path | None) -> dict[str, Any]:
    fields = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    del fields["thumbnail"]
    return fields | ({"thumbnail": str(picture)} if picture else {})


def save_thumbnails(items, folder: Path | None) -> list[Path | None]:
    if folder is None:
        return [None] * len(items)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for item in items:
        stem = re.sub(r"[^\w.-]", "_", _name(item.uri))
        paths.append(folder / f"{stem}-{item.start_s:.1f}s.jpg")
        paths[-1].write_bytes(item.thumbnail)
    return paths


def _hit_table(hits: list[SearchHit], pictures: list[Path | None]) -> Table:
    table = Table("video", "event", "from", "to", "score", "text")
    for hit, picture in zip(hits, pictures, strict=True):
        table.add_row(
            _name(hit.uri), str(hit.index), _clock(hit.start_s), _clock(hit.end_s),
            f"{hit.score:.3f}", str(picture or hit.text or ""),
        )  # fmt: skip
    return table


def _citation_table(answer: Answer) -> Table:
    table = Table("video", "event", "from", "to", "score")
    for citation in answer.citations:
        score = "" if citation.score is None else f"{citation.score:.3f}"
        table.add_row(
            _name(citation.uri), str(citation.event_index), _clock(citation.start_s),
            _clock(citation.end_s), score,
        )  # fmt: skip
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]
