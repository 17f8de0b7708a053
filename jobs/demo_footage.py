"""`marc demo --footage`: found by what is said and by what is written, on clips rendered here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import track
from rich.text import Text

from jobs.common import console, print_json, ray_session
from jobs.footage import Clip, Shot, loud_span_s, spoken_samples, write_clip
from jobs.index import progress_bar
from jobs.index_report import print_report
from jobs.options import quoted
from jobs.query import out, print_pictures, save_thumbnails
from jobs.terminal import counted, say
from marc_core.config import IndexConfig, load_config
from marc_core.display import clock, video_name

if TYPE_CHECKING:
    from marc_core.archive import SearchHit
    from marc_core.session import Session

TOLERANCE_S = 0.5
"""How far a found time may lie from the true one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What is looked for, and where it is: the number of the shot in the clip."""

    words: str
    clip: Clip
    shot: int

    def true_spans_s(self) -> dict[str, tuple[float, float]]:
        """Return by kind when the shot's words are said and its sign is seen."""
        shot, start_s = self.clip.shots[self.shot], self.clip.starts_s()[self.shot]
        spans = {}
        if shot.spoken:
            from_s, to_s = loud_span_s(spoken_samples(spoken_folder() / f"{shot.spoken}.ogg"))
            said_s = start_s + shot.said_after_s
            spans["speech"] = (said_s + from_s, said_s + to_s)
        if shot.sign:
            spans["writing"] = (start_s, start_s + shot.seconds)
        return spans


HARBOUR = Clip(
    name="harbour",
    seed=11,
    shots=(
        Shot(seconds=4.0, colours=("midnightblue", "lightskyblue")),
        Shot(seconds=6.0, colours=("darkslategray", "wheat"), spoken="harbour"),
        Shot(seconds=5.0, colours=("saddlebrown", "gold"), sign="CUSTOMS OFFICE 12"),
    ),
)
STREET = Clip(
    name="street",
    seed=12,
    shots=(
        Shot(seconds=5.0, colours=("darkgreen", "palegreen"), sign="BOTANICAL GARDEN"),
        Shot(seconds=7.0, colours=("maroon", "mistyrose"), sign="OPEN UNTIL SIX", spoken="bakery"),
        Shot(seconds=4.0, colours=("indigo", "plum")),
    ),
)
CLIPS = (HARBOUR, STREET)
SEARCHES = (
    Search(words="ferry leaves the harbor", clip=HARBOUR, shot=1),
    Search(words="customs office", clip=HARBOUR, shot=2),
    Search(words="old bakery, open until six", clip=STREET, shot=1),
)


def run(folder: Path, *, as_json: bool) -> None:
    """Render the clips, index them with speech and writing, and search. Prints each find."""
    archive, memory = folder / "archive", folder / "memory"
    _render(archive)
    _index(archive, memory, quiet=as_json)
    found = _search(memory, folder / "pictures", quiet=as_json)
    if as_json:
        print_json(found)
        return
    right = sum(case["found"] for case in found)
    out.print(f"[bold]{right} of {len(found)} searches found the right event and time.[/bold]")
    out.print("Next:")
    for line in (
        f'marc search "customs office" --memory {memory}',
        "marc index /path/to/your/videos --memory runs/memory",
    ):
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def spoken_folder() -> Path:
    """Return the folder of the spoken clips that come with the package."""
    import marc_core.world

    return Path(marc_core.world.__file__).parent / "spoken"


def _render(archive: Path) -> None:
    archive.mkdir(parents=True, exist_ok=True)
    missing = sum(not (archive / f"{clip.name}.mp4").exists() for clip in CLIPS)
    if missing:
        say(f"rendering {counted(missing, 'clip')} into {archive}")
    for clip in track(CLIPS, description="rendering", console=console, transient=True):
        path = archive / f"{clip.name}.mp4"
        if not path.exists():
            part = path.with_suffix(".part")
            write_clip(clip, part, spoken_folder())
            part.rename(path)


def _index(archive: Path, memory: Path, *, quiet: bool) -> None:
    from pipelines.index import index_archive

    config = load_config(
        IndexConfig,
        preset="tiny",
        overrides=[
            f"archive=[{quoted(str(archive))}]",
            f"memory.uri={quoted(str(memory))}",
            "text.speech=on",
            "text.writing=on",
        ],
    )
    with ray_session(), progress_bar() as progress:
        report = index_archive(config, progress)
    if not quiet:
        print_report(report, config.memory.uri)


def _search(memory: Path, pictures: Path, *, quiet: bool) -> list[dict[str, Any]]:
    from marc_core.session import open_session

    session = open_session(memory)
    results = []
    for search in SEARCHES:
        hits = session.search(search.words, limit=1)
        files = save_thumbnails(hits, pictures, session.archive.thumbnails)
        for hit, picture in zip(hits, files, strict=True):
            results.append(judge(search, hit, lines_of(session, hit)) | {"picture": str(picture)})
            if not quiet:
                _print_case(results[-1], picture)
    session.close()
    return results


def lines_of(session: Session, hit: SearchHit) -> list[dict[str, Any]]:
    """Return the texts of an event with their times from the video's own 0:00."""
    rows = session.store.texts_of([hit.event_id]).to_pylist()
    return [
        {
            "kind": row["kind"],
            "start_s": row["start_s"] - hit.video_start_s,
            "end_s": row["end_s"] - hit.video_start_s,
            "text": row["text"],
        }
        for row in rows
    ]


def judge(search: Search, hit: SearchHit, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what was found and whether clip, words and times are right.

    Right: the clip, and for what is said and what is written in the shot a line that begins and
    ends within half a second of it.
    """
    spans = search.true_spans_s()
    near = {
        kind: any(line["kind"] == kind and _is_near(line, span) for line in lines)
        for kind, span in spans.items()
    }
    right_clip = video_name(hit.uri) == f"{search.clip.name}.mp4"
    return {
        "words": search.words,
        "video": video_name(hit.uri),
        "event_start_s": hit.start_s - hit.video_start_s,
        "event_end_s": hit.end_s - hit.video_start_s,
        "lines": lines,
        "true_spans_s": {kind: list(span) for kind, span in spans.items()},
        "found": right_clip and all(near.values()),
    }


def _is_near(line: dict[str, Any], span_s: tuple[float, float]) -> bool:
    ends = (line["start_s"], line["end_s"])
    return all(abs(mine - true) <= TOLERANCE_S for mine, true in zip(ends, span_s, strict=True))


def _print_case(case: dict[str, Any], picture: Path | None) -> None:
    out.rule(Text(case["words"]))
    where = f"{clock(case['event_start_s'])} - {clock(case['event_end_s'])}"
    out.print(Text(f"{case['video']}, {where}", style="bold"))
    for line in case["lines"]:
        out.print(Text(f"  {_span(line['start_s'], line['end_s'])} {line['kind']}: {line['text']}"))
    print_pictures([picture])
    true = ", ".join(f"{kind} at {_span(*span)}" for kind, span in case["true_spans_s"].items())
    verdict = "[green]right[/green]" if case["found"] else "[red]wrong[/red]"
    out.print(f"{verdict}: rendered with {true}\n")


def _span(start_s: float, end_s: float) -> str:
    return f"{clock(start_s)} - {clock(end_s)}"
