"""A question's whole way on a real memory, with the tiny preset's models."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import marc_core
from marc_core.answer import Answer, Answerer
from marc_core.errors import AnswerError
from marc_core.models.engine import Delta
from marc_core.prepare import Preparer
from marc_core.prepared import PrepareSettings
from marc_core.question import EventFilter, Question, Sampling, SearchQuery
from marc_core.session import Session
from tests.marc_core.engines import EchoEngine


@pytest.fixture(scope="module")
def session(small_memory: Path) -> Iterator[Session]:
    with marc_core.open(small_memory / "runs" / "memory") as session:
        yield session


@pytest.fixture
def answerer(session: Session) -> Answerer:
    return session.answerer


def about(session: Session, name: str, **more: Any) -> EventFilter:
    return EventFilter(video_ids=(session.video_id(name),), **more)


def test_citations_are_events_of_the_memory_in_order(session: Session, answerer: Answerer) -> None:
    question = Question(text="What happens?", filter=about(session, "video1.mp4"))
    (answer,) = answerer.answer([question])
    assert answer.retrieval == "retrieved"
    assert answer.features == "cached"
    assert len(answer.citations) == len(session.events("video1.mp4"))  # it names none of them
    starts = [c.start_s for c in answer.citations]
    assert starts == sorted(starts)
    events = {hit.event_id: hit for hit in session.events("video1.mp4")}
    for citation in answer.citations:
        event = events[citation.event_id]
        assert (citation.uri, citation.start_s, citation.end_s, citation.video_start_s) == (
            event.uri, event.start_s, event.end_s, event.video_start_s,
        )  # fmt: skip
        assert citation.cosine is not None
    pictures = answerer.thumbnails([c.event_id for c in answer.citations])
    assert all(pictures[c.event_id].startswith(b"\xff\xd8") for c in answer.citations)
    assert answer.usage.visual_tokens == 9 < answer.usage.source_tokens
    assert set(answer.timings_s) == {"embed", "retrieve", "features", "compress", "generate"}
    assert answer.finish_reason == "stop"


def test_questions_answer_alike_alone_and_together(answerer: Answerer) -> None:
    asked = [
        Question(text="Which way does the object move?", options=("left", "right")),
        Question(text="What colour is the background?", options=("red", "blue", "green"), k=1),
        Question(text="What happens in the video?", budget_tokens=27),
    ]
    together = answerer.answer(asked)
    alone = [answerer.answer([question])[0] for question in asked]
    assert [a.text for a in together] == [a.text for a in alone]
    for one, same in zip(together, alone, strict=True):
        assert [c.event_id for c in one.citations] == [c.event_id for c in same.citations]
        assert [c.cosine for c in one.citations] == pytest.approx(
            [c.cosine for c in same.citations], abs=1e-5
        )
    assert together[0].text in ("left", "right")
    assert [a.usage.visual_tokens for a in together] == [9, 9, 27]
    assert len(together[1].citations) == 1


def test_temperature_and_limit_that_were_asked_for_are_used(answerer: Answerer) -> None:
    hot = Sampling(temperature=1.5, max_tokens=1, seed=3, n=8)
    (answer,) = answerer.answer([Question(text="Describe what moves", sampling=hot)])
    assert [s.index for s in answer.samples] == list(range(8))
    assert {len(s.token_ids) for s in answer.samples} == {1}
    assert answer.finish_reason == "length"
    assert {s.sampling.temperature for s in answer.samples} == {1.5}
    assert len({s.token_ids for s in answer.samples}) > 1  # greedy would give one
    (again,) = answerer.answer([Question(text="Describe what moves", sampling=hot)])
    assert [s.token_ids for s in again.samples] == [s.token_ids for s in answer.samples]
    (greedy,) = answerer.answer([Question(text="What happens in the video?")])
    assert greedy.samples[0].sampling.temperature == 0.0
    assert len(greedy.samples[0].token_ids) > 1


def test_the_deployments_values_hold_where_a_question_gives_none(session: Session) -> None:
    student = dataclasses.replace(session.config.student, temperature=0.7, max_new_tokens=3)
    engine = EchoEngine()
    config = dataclasses.replace(session.config, student=student)
    answerer = Answerer(session.preparer, engine, config)
    answerer.answer([Question(text="a"), Question(text="b", sampling=Sampling(temperature=0.0))])
    asked = [(r.sampling.temperature, r.sampling.max_tokens) for r in engine.requests]
    assert asked == [(0.7, 3), (0.0, 3)]


def test_a_stream_ends_with_the_same_answer(answerer: Answerer) -> None:
    question = Question(text="What happens in the video?")

    async def read() -> list[Delta | Answer]:
        return [item async for item in answerer.stream(question)]

    *deltas, answer = asyncio.run(read())
    assert isinstance(answer, Answer)
    assert "".join(d.text for d in deltas).strip() == answer.text
    assert answer.text == answerer.answer([question])[0].text


def test_leaving_a_stream_early_frees_its_place(session: Session) -> None:
    engine = EchoEngine()
    answerer = Answerer(session.preparer, engine, session.config)

    async def leave() -> None:
        stream = answerer.stream(Question(text="What?", sampling=Sampling(n=2)))
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(leave())
    assert engine.aborted == [engine.requests[0].id]


def test_frames_stand_in_for_missing_features(session: Session) -> None:
    """With other stage-1 settings the memory holds no features: they are made from the source."""
    question = Question(text="What happens?", filter=about(session, "video1.mp4"))
    compress = dataclasses.replace(session.config.compress, stored_tokens=5)
    config = dataclasses.replace(session.config, compress=compress)
    with Session(session.store, config) as other:
        (decoded,) = other.preparer.load(other.preparer.choose([question]))
    assert decoded.origin == "decoded"
    (cached,) = session.preparer.load(session.preparer.choose([question]))
    assert cached.origin == "cached"
    for made, stored in zip(decoded.features, cached.features, strict=True):
        torch.testing.assert_close(made.positions_R3[0], stored.positions_R3[0])
        assert made.max_tokens == 5 < stored.max_tokens


def test_features_made_from_frames_equal_the_stored_ones(session: Session) -> None:
    hit = session.events("video1.mp4")[1]
    (stored,) = session.archive.features([hit])
    made = session.preparer._encode(hit)
    torch.testing.assert_close(made.positions_R3[0], stored.positions_R3[0])
    torch.testing.assert_close(
        made.nodes_RD[0].float(), stored.nodes_RD[0].float(), rtol=2e-2, atol=2e-2
    )


class Refusing:
    """A memory of which nothing but stored rows may be used."""

    def __init__(self, archive: Any) -> None:
        self.archive = archive

    def __getattr__(self, name: str) -> Any:
        return getattr(self.archive, name)

    def frames(self, hit: Any) -> Any:
        raise AssertionError(f"{hit.event_id} was decoded")


def test_a_student_tuned_with_its_tower_frozen_reads_the_memory_unchanged(
    session: Session, tmp_path: Path
) -> None:
    """Other language weights, the same tower: no decode, no tower call, another answer."""
    tuned = retrained(session, tmp_path / "tuned")
    student = dataclasses.replace(session.config.student, model=str(tuned))
    config = dataclasses.replace(session.config, student=student)
    question = Question(text="What happens in the video?", filter=about(session, "video1.mp4"))
    with Session(session.store, config) as other:

        def no_tower() -> Any:
            raise AssertionError("the vision tower was asked for")

        preparer = Preparer(
            Refusing(other.archive), other.encoder, other.files,
            PrepareSettings.of(config, other.files.settings), tower=no_tower,
        )  # fmt: skip
        (answer,) = Answerer(preparer, other.engine, config).answer([question])
    (before,) = session.answerer.answer([question])
    assert answer.features == "cached"
    assert answer.citations == before.citations
    assert answer.samples[0].log_probs != before.samples[0].log_probs


def retrained(session: Session, folder: Path) -> Path:
    """The session's student with other weights in its language model, saved by the library."""
    import shutil

    from transformers import AutoModelForImageTextToText

    directory = session.files.directory
    shutil.copytree(directory, folder)
    model = AutoModelForImageTextToText.from_pretrained(directory)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "visual" not in name:
                parameter.mul_(1.05)
    model.save_pretrained(folder)
    return folder


def test_text_beside_a_video_is_found(answerer: Answerer) -> None:
    hits = answerer.search(SearchQuery(text="needle in the haystack", limit=3))
    assert any("haystack" in (hit.text or "") for hit in hits)


def test_more_like_an_event_and_like_a_picture(session: Session, answerer: Answerer) -> None:
    first = session.events("video1.mp4")[0]
    like = answerer.search(SearchQuery(event_id=first.event_id, limit=9))
    assert first.event_id not in {hit.event_id for hit in like}
    assert len(like) == 9
    picture = answerer.thumbnails([first.event_id])[first.event_id]
    (found,) = answerer.search(SearchQuery(image=picture, limit=1))
    assert found.event_id == first.event_id


def test_a_video_is_named_by_id_uri_or_file_name(session: Session) -> None:
    hit = session.events("video1.mp4")[0]
    assert session.video_id(hit.uri) == session.video_id(hit.video_id) == hit.video_id
    with pytest.raises(AnswerError, match=r"no video 'nowhere.mp4'"):
        session.video_id("nowhere.mp4")


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question(text="   "), "must not be empty"),
        (Question(text="What?", filter=EventFilter(camera="none such")), "has camera .none such"),
        (Question(text="What?", options=("a",) * 27), "at most 26 options"),
    ],
)
def test_errors_name_the_remedy(answerer: Answerer, question: Question, words: str) -> None:
    with pytest.raises(AnswerError, match=words):
        answerer.answer([question])
