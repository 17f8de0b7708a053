"""A summary of a video from its texts, each sentence with the time that it rests on.

    texts of events --notes--> captions, speech, writing in order of time, each once
                    --fitted--> as many as the budget holds, evenly spread
                    --summary_prompt--> student --with_times--> prose that cites times

The student reads numbered notes and cites their numbers, which become times here: a time in the
summary is always the time of a note. A student that writes no prose of its own
(`ModelSettings.prose`) gives the notes as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from marc_core.display import clock, video_name
from marc_core.errors import AnswerError

if TYPE_CHECKING:
    from marc_core.archive import SearchHit
    from marc_core.session import Session

_TOLD = {"caption": "shown", "speech": "said", "writing": "written", "sidecar": "subtitled"}
"""How the prompt names each kind of text."""
_CITED = re.compile(r"\s*\[(\d+(?:\s*[,;-]\s*\d+)*)\]")
_PROMPT = """\
These are notes on {what}, each with its number, its time and how it was found:
{notes}
Summarise what happens in at most {sentences} sentences. Use only what the notes say. End each \
sentence with the number of the note that it rests on in square brackets, like [2]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A text with its time. start_s, end_s: from the video's own 0:00."""

    event_id: str
    uri: str
    start_s: float
    end_s: float
    kind: str
    text: str

    @property
    def time(self) -> str:
        """Return when it is, as people read it."""
        return f"{clock(self.start_s)} - {clock(self.end_s)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """text: prose whose citations are times, empty where the student writes none. cited: the notes
    that it rests on, in order of time; without prose all notes. left_out: notes that the budget
    did not hold. unfounded: citations of notes that do not exist, which were taken out."""

    text: str
    cited: tuple[Note, ...]
    left_out: int = 0
    unfounded: int = 0


def notes_of(hits: Sequence[SearchHit], rows: Sequence[Mapping[str, Any]]) -> list[Note]:
    """Return the texts of events as notes, in order of video and time.

    hits: events in order. rows: of `texts`. A text that goes on over several events is one note:
    the same line of speech across a cut, and what a caption says of events that follow each other.
    """
    of = {hit.event_id: hit for hit in hits}
    order = {hit.video_id: place for place, hit in reversed(list(enumerate(hits)))}
    rows = sorted(
        (row for row in rows if row["event_id"] in of),
        key=lambda row: (order[row["video_id"]], row["start_s"], row["end_s"], row["text_id"]),
    )
    notes: list[Note] = []
    latest: dict[tuple[str, str, str], int] = {}
    for row in rows:
        hit = of[row["event_id"]]
        note = Note(
            event_id=row["event_id"],
            uri=hit.uri,
            start_s=row["start_s"] - hit.video_start_s,
            end_s=row["end_s"] - hit.video_start_s,
            kind=row["kind"],
            text=row["text"],
        )
        key = (row["video_id"], note.kind, note.text)
        before = latest.get(key)
        if before is not None and note.start_s <= notes[before].end_s + 1e-3:
            end_s = max(notes[before].end_s, note.end_s)
            notes[before] = replace(notes[before], end_s=end_s)
            continue
        latest[key] = len(notes)
        notes.append(note)
    return notes


def fitted(notes: Sequence[Note], budget: int, tokens: Callable[[str], int]) -> list[Note]:
    """Return as many notes as `budget` tokens hold, evenly spread over all of them; one at least.

    tokens: counts a text's.
    """
    costs = [tokens(_line(i, note)) for i, note in enumerate(notes, 1)]
    step = 1
    while step < len(notes) and sum(costs[::step]) > budget:
        step += 1
    return list(notes[::step])


def summary_prompt(notes: Sequence[Note], sentences: int) -> str:
    """Return what the student is asked."""
    videos = {note.uri for note in notes}
    what = "a video" if len(videos) == 1 else f"{len(videos)} videos"
    lines, last = [], ""
    for number, note in enumerate(notes, 1):
        if len(videos) > 1 and note.uri != last:
            lines.append(f"{video_name(note.uri)}:")
            last = note.uri
        lines.append(_line(number, note))
    return _PROMPT.format(what=what, notes="\n".join(lines), sentences=sentences)


def _line(number: int, note: Note) -> str:
    return f"[{number}] {note.time} {_TOLD.get(note.kind, note.kind)}: {note.text}"


def with_times(text: str, notes: Sequence[Note]) -> tuple[str, tuple[Note, ...], int]:
    """Return the prose with times for numbers, the notes that it cites, and how many citations
    named no note."""
    cited: set[int] = set()
    unfounded = 0
    named = len({note.uri for note in notes}) > 1

    def times(found: re.Match[str]) -> str:
        nonlocal unfounded
        numbers = _numbers(found.group(1))
        known = [n for n in numbers if 1 <= n <= len(notes)]
        unfounded += len(numbers) - len(known)
        cited.update(known)
        shown = [
            (f"{video_name(notes[n - 1].uri)} " if named else "") + clock(notes[n - 1].start_s)
            for n in known
        ]
        return f" [{', '.join(shown)}]" if shown else ""

    text = _CITED.sub(times, text.strip())
    return text, tuple(notes[n - 1] for n in sorted(cited)), unfounded


def _numbers(text: str) -> list[int]:
    """Return the numbers of "2", "2, 5" and "2-4"."""
    numbers: list[int] = []
    for part in re.split(r"[,;]", text):
        first, *last = (int(n) for n in part.split("-"))
        end = last[0] if last else first
        numbers += range(first, end + 1) if 0 <= end - first < 100 else [first]
    return numbers


def summarize(
    session: Session,
    *,
    sentences: int = 6,
    budget_tokens: int = 4096,
    video: str | None = None,
    **where: Any,
) -> Summary:
    """Return a summary of a video, or of all events that pass the filter (`Session.filter`).

    budget_tokens: of the notes that the student reads. Raises AnswerError where no event passes,
    or none has a text.
    """
    from marc_core.answer import completed
    from marc_core.question import Sampling

    hits = session.events(video, **where)
    if not hits:
        raise AnswerError(f"There is nothing to summarise. {hits.nothing}")
    rows = session.store.texts_of([hit.event_id for hit in hits]).to_pylist()
    notes = notes_of(hits.hits, rows)
    if not notes:
        raise AnswerError(
            "A summary needs texts, and these events have none. Make them: marc index ARCHIVE "
            f"--memory {session.config.memory.uri} text.captions=on"
        )
    if not session.files.settings.prose:
        return Summary(text="", cited=tuple(notes))
    tokenizer = session.files.tokenizer
    kept = fitted(notes, budget_tokens, lambda text: len(tokenizer(text)["input_ids"]))
    evidence = session.files.evidence(summary_prompt(kept, sentences), None)
    sampling = Sampling(temperature=0.0, max_tokens=48 * sentences)
    ((completion, *_),) = completed(session.engine, [evidence], [sampling])
    text, cited, unfounded = with_times(completion.text, kept)
    return Summary(text=text, cited=cited, left_out=len(notes) - len(kept), unfounded=unfounded)
