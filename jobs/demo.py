"""`marc demo`: the whole way once, on videos that it renders itself."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import track
from rich.text import Text

from jobs.common import clear_errors, console, print_json, ray_session
from jobs.index_report import print_report
from jobs.options import JsonOption, quoted
from jobs.progress import progress_bar
from jobs.query import answer_to_json, out, print_answer, save_thumbnails
from jobs.terminal import counted, say
from marc_core.config import IndexConfig, load_config

if TYPE_CHECKING:
    from marc_core.answer import Answer
    from marc_core.world import Question, WorldVideo


def demo(
    folder: Annotated[Path, typer.Option(help="Where archive and memory go.")] = Path("runs/demo"),
    videos: Annotated[int, typer.Option(min=1, help="Videos to render.")] = 8,
    questions: Annotated[int, typer.Option(min=1, help="Questions to ask.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic world.")] = 7,
    k: Annotated[
        int | None, typer.Option(min=1, help="Events to retrieve; default: as the scores say.")
    ] = None,
    footage: Annotated[
        bool,
        typer.Option("--footage", help="Find what is said and written, in clips like footage."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Render a small archive, index it on a local Ray, and ask questions about it.

    The teacher answers beside the student: it reads every frame of the best events, uncompressed.
    With --footage the clips have speech and signs, and are searched by their words instead.

    Examples: marc demo --folder runs/demo --videos 8; marc demo --footage
    """
    archive, memory = folder / "archive", folder / "memory"
    if footage:
        from jobs import demo_footage

        with clear_errors():
            demo_footage.run(folder / "footage", as_json=as_json)
        return
    with clear_errors():
        rendered = _render(archive, videos, seed)
        _index(archive, memory)
        answers = _ask(archive, memory, pick_questions(rendered, questions), k, quiet=as_json)
    if as_json:
        print_json(answers)
        return
    right = sum(a["correct"] for a in answers)
    taught = sum(a["teacher"]["correct"] for a in answers)
    out.print(f"[bold]{right} of {len(answers)} answers are right; the teacher's: {taught}.[/bold]")
    out.print("Next:")
    activate = Path(sys.executable).parent / "activate"
    for line in (
        *([f"source {activate}"] if shutil.which("marc") is None and activate.exists() else []),
        f'marc search "a red circle" --memory {memory}',
        f'marc ask "Which way does the red circle move?" -o left -o right --memory {memory}',
        f"marc serve --memory {memory}      # the page, at http://127.0.0.1:8000",
        f"marc status --memory {memory}",
        "marc index /path/to/your/videos --memory runs/memory",
        "marc submit --address http://HEAD:8265 -- index s3://BUCKET/videos -m s3://BUCKET/memory",
    ):
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _render(archive: Path, num_videos: int, seed: int) -> list[WorldVideo]:
    """Render the archive unless it is there; the world is deterministic, so a file is final."""
    from marc_core.world import archive_config, mark_synthetic, sample_video, write_mp4

    archive.mkdir(parents=True, exist_ok=True)
    config = archive_config()
    videos = [sample_video(seed * 1000 + i, config) for i in range(num_videos)]
    missing = sum(not (archive / f"{video.name}.mp4").exists() for video in videos)
    if missing:
        say(f"rendering {counted(missing, 'video')} into {archive}")
    for video in track(videos, description="rendering", console=console, transient=True):
        path = archive / f"{video.name}.mp4"
        if path.exists():
            mark_synthetic(path)
        else:
            write_mp4(video, path)
    return videos


def _index(archive: Path, memory: Path) -> None:
    from pipelines.index import index_archive

    config = load_config(
        IndexConfig,
        preset="tiny",
        overrides=[f"archive=[{quoted(str(archive))}]", f"memory.uri={quoted(str(memory))}"],
    )
    with ray_session(), progress_bar() as progress:
        report = index_archive(config, progress, say)
    print_report(report, config.memory.uri)


def _ask(
    archive: Path,
    memory: Path,
    cases: list[tuple[WorldVideo, Question]],
    k: int | None,
    *,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Ask questions whose answers the world knows; print each with its citations, and what the
    teacher answers."""
    from marc_core.session import open_session

    session = open_session(memory)
    teacher = open_session(
        memory,
        overrides=[
            f"student.model={quoted(session.config.teacher_model().model)}", "compress.mode=none"
        ],
    )  # fmt: skip
    results = []
    for video, question in cases:
        path = str((archive / f"{video.name}.mp4").resolve())
        asked = {"options": question.options, "k": k, "video": path}
        answer = session.ask(question.text, **asked).answer
        taught = teacher.ask(question.text, **asked).answer
        pictures = save_thumbnails(
            answer.citations, archive.parent / "pictures", session.archive.thumbnails
        )
        results.append(_judge(answer, taught, question, video, pictures))
        if not quiet:
            _print_case(answer, taught, question, video, pictures)
    session.close()
    teacher.close()
    return results


def pick_questions(videos: list[WorldVideo], count: int) -> list[tuple[WorldVideo, Question]]:
    """Return `count` multiple-choice questions of different types, spread over the videos.

    Only questions about one event, which they name: what follows it, or when in the video it is,
    cannot be told from the few events that the retriever finds by the question's words.
    """
    from marc_core.world import make_questions

    picked: list[tuple[WorldVideo, Question]] = []
    used: set[str] = set()
    for turn in range(count):
        video = videos[turn % len(videos)]
        asked = make_questions(video, seed=video.seed)
        pool = [q for q in asked if q.options and q.named and q.scope == "within-event"]
        fresh = [q for q in pool if q.type not in used] or pool
        if fresh:
            picked.append((video, fresh[turn % len(fresh)]))
            used.add(picked[-1][1].type)
    return picked


def _judge(
    answer: Answer,
    taught: Answer,
    question: Question,
    video: WorldVideo,
    pictures: list[Path | None],
) -> dict[str, Any]:
    return answer_to_json(answer, pictures) | {
        "video": video.name,
        "expected": f"{question.answer} {question.answer_text}",
        "correct": _is_right(answer, question),
        "teacher": {
            "text": taught.text,
            "visual_tokens": taught.usage.visual_tokens,
            "correct": _is_right(taught, question),
        },
    }


def _is_right(answer: Answer, question: Question) -> bool:
    from marc_core.scoring.parse import extract_letter

    return extract_letter(answer.text, question.options) == question.answer


def _print_case(
    answer: Answer,
    taught: Answer,
    question: Question,
    video: WorldVideo,
    pictures: list[Path | None],
) -> None:
    out.rule(f"{video.name}: {question.type}")
    out.print(Text(question.text, style="bold"))
    for letter, option in zip("ABCDEFGH", question.options, strict=False):
        out.print(Text(f"  {letter}. {option}"))
    print_answer(answer, pictures)
    right = _is_right(answer, question)
    verdict = "[green]right[/green]" if right else "[red]wrong[/red]"
    out.print(f"{verdict}: the world knows {question.answer} {question.answer_text}")
    tokens = taught.usage.visual_tokens
    out.print(Text(f"the teacher, from all {tokens} tokens of the best events: {taught.text}\n"))
