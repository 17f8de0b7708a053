"""Text of the retrieved events in the prompt: what a student makes of it.

    python -m benchmarks.hints [--videos 12] [--budget 96] [--output FILE] [KEY=VALUE]...

Videos of the synthetic world, each event with a spoken line (`speech`) and a written one
(`writing`), put into the memory as text stages put them. Every multiple-choice question is asked in
these ways, all else the same (its events, its tokens):

none       without text
hint       the spoken line says what the event shows, and so holds the answer; the written one is
           of no use
misled     the spoken line of another event of the video

`told` is the share of prompts that hold the answer's words. A student that reads gains by `hint`
and loses by `misled`. Prints JSON; KEY=VALUE are settings of `marc ask` (student.model=...).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.world_memory import fill, source_of
from marc_core.config import AnswerConfig, load_config
from marc_core.memory import MemoryStore
from marc_core.memory.stage_texts import OUTCOMES
from marc_core.schemas import TEXTS
from marc_core.scoring.parse import extract_letter
from marc_core.session import Session
from marc_core.text.stage import Said, Span
from marc_core.text_rows import stage_rows
from marc_core.world import WorldVideo, describe_event, make_questions, sample_video

SEED = 880_000
WRITTEN = "PLATFORM 4"
ARMS = ("none", "hint", "misled")


def main() -> None:
    """Ask in every way and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--budget", type=int, default=96, help="tokens of text")
    parser.add_argument("--output", type=Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    videos = [sample_video(SEED + i) for i in range(given.videos)]
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), videos)
        report = {
            arm: asked(Path(folder), videos, arm, given.budget if arm != "none" else 0, given)
            for arm in ARMS
        }
    text = json.dumps({"videos": given.videos, "budget_tokens": given.budget, **report}, indent=2)
    print(text)
    if given.output:
        given.output.write_text(text + "\n")


def asked(
    memory: Path, videos: Sequence[WorldVideo], arm: str, budget: int, given: Any
) -> dict[str, Any]:
    """Return how the questions were answered in one way."""
    overrides = [f"memory.uri='{memory}'", f"answer.text_in_prompt={budget}", *given.settings]
    config = load_config(AnswerConfig, preset="tiny", overrides=overrides)
    session = Session(MemoryStore.open(config.memory), config)
    right = told = count = tokens = 0
    for i, video in enumerate(videos):
        source = source_of(i, video)
        say(session.store, source.video_id, video, shift=1 if arm == "misled" else 0)
        for question in make_questions(video, seed=video.seed, open_share=0.0):
            if not question.options:
                continue
            answer = session.ask(
                question.text, options=question.options, video=source.video_id
            ).answer
            prompt = _prompt(session, answer.question)
            count += 1
            right += extract_letter(answer.text, question.options) == question.answer
            told += f" {question.answer_text} " in prompt.split("Options")[0]
            tokens += answer.usage.prompt_tokens
    session.close()
    return {
        "questions": count,
        "right": round(right / count, 3),
        "told": round(told / count, 3),
        "prompt_tokens": round(tokens / count, 1),
    }


def _prompt(session: Session, question: Any) -> str:
    """Return the words before the question, as the student reads them."""
    (chosen,) = session.preparer.choose([question])
    return session.preparer._said(chosen) + " "


def say(store: MemoryStore, video_id: str, video: WorldVideo, *, shift: int) -> None:
    """Let each event's speech be the description of the event `shift` places on."""
    (row,) = [r for r in store.videos().to_pylist() if r["video_id"] == video_id]
    spans = [
        Span(event_id=e["event_id"], start_s=e["start_s"], end_s=e["end_s"])
        for e in store.events_of(video_id, columns=["event_id", "start_s", "end_s"]).to_pylist()
    ]
    texts, outcomes = [], []
    for kind in ("speech", "writing"):
        lines = []
        for i, event in enumerate(video.events):
            told = describe_event(video.events[(i + shift) % len(video.events)])
            lines.append(
                Said(
                    start_s=event.start_s + 0.1,
                    end_s=event.end_s - 0.1,
                    text=told if kind == "speech" else WRITTEN,
                )
            )
        texts += stage_rows(spans, video_id, kind, lines, f"world-{shift}")
        outcome = {"video_id": video_id, "kind": kind, "fingerprint": f"world-{shift}"}
        outcomes.append({**outcome, "warnings": [], "indexed_at": row["indexed_at"]})
    store.publish_stage_texts(
        pa.Table.from_pylist(outcomes, schema=OUTCOMES), pa.Table.from_pylist(texts, schema=TEXTS)
    )


if __name__ == "__main__":
    main()
