"""`marc demo`: the whole way once, on videos that it renders itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.common import clear_errors, print_json
from jobs.options import JsonOption, quoted
from jobs.query import out
from marc_core.config import IndexConfig, load_config

QUESTION_TYPES = ("colour", "shape", "background", "existence", "direction", "attribute_change")


def demo(
    folder: Annotated[Path, typer.Option(help="Where archive and memory go.")] = Path("runs/demo"),
    videos: Annotated[int, typer.Option(min=1, help="Videos to render.")] = 8,
    questions: Annotated[int, typer.Option(min=1, help="Questions to ask.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic world.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Render a small archive, index it on a local Ray, and ask questions about it.

    Example: marc demo --folder runs/demo --videos 8
    """
    archive, memory = folder / "archive", folder / "memory"
    with clear_errors():
        _render(archive, videos, seed)
        config = load_config(
            IndexConfig,
            preset="tiny",
            overrides=[
                f"archive=[{quoted(str(archive))}]", f"memory.uri={quoted(str(memory))}",
                'patterns=["*.mp4"]',
            ],
        )  # fmt: skip
        _index(config)
        answers = _ask(archive, memory, questions)
    if as_json:
        print_json(answers)
        return
    right = sum(a["correct"] for a in answers)
    out.print(f"\n[bold]{right} of {len(answers)} answers are right.[/bold] Next:\n")
    for line in (
        f'marc search "a red circle" --memory {memory}',
        f'marc ask "How many objects are there?" --memory {memory}',
        f"marc status --memory {memory}",
        "marc index /path/to/your/videos --memory runs/memory",
        "marc submit --address http://HEAD:8265 -- index s3://BUCKET/videos -m s3://BUCKET/memory",
    ):
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _render(archive: Path, num_videos: int, seed: int) -> None:
    """Render the archive unless it is there; the world is deterministic, so a file is final."""
    from rich.progress import track

    archive.mkdir(parents=True, exist_ok=True)
    for video in track(
        demo_videos(num_videos, seed), description="rendering", total=num_videos, console=console
    ):
        path = archive / f"{video.name}.mp4"
        if not path.exists():
            part = path.with_suffix(".part.mp4")
            write_mp4(video, part)
            part.rename(path)


def demo_videos(num_videos: int, seed: int) -> Iterator[WorldVideo]:
    """Yield the videos of the demo's archive."""
    return (sample_video(seed + i, WorldConfig()) for i in range(num_videos))


def _index(config: IndexConfig) -> None:
    from pipelines.index import index_archive

    with ray_session(), progress_bar() as progress:
        report = index_archive(config, progress)
    print_report(report, config)


def _ask(archive: Path, memory: Path, videos: list[WorldVideo], count: int) -> list[dict[str, Any]]:
    """Ask questions whose answers the world knows; print each with its citations."""
    overrides = [f"memory.uri={quoted(str(memory))}"]
    config = load_config(AskConfig, preset="tiny", overrides=overrides)
    store = MemoryStore.open(config.memory)
    encoder, student = load_encoder(config.encoder), load_student(config.student)
    answers = []
    for video, question in demo_questions(videos, count):
        asked = dataclasses.replace(config, question=question.text, options=question.options)
        answer = answer_question(
            question.text, store=store, encoder=encoder, student=student, config=asked
        )
        answers.append(_judged(answer, question, video))
    return answers
