"""From questions to their events: the search, the rules, and a budget's share in them.

    questions --embedded together--> rankings --marc_core.choosing--> events that they name, or all
      those that name none, with options --marc_core.option_choice--> events that the options name

Mode tokens only; where groups are merged it is the paper's top k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from marc_core.choosing import POOL, Selection, chronological, select
from marc_core.errors import AnswerError, NothingFoundError
from marc_core.models.prompt import question_text
from marc_core.option_choice import WithOptions, asks_options, narrow
from marc_core.prepared import Chosen, timed
from marc_core.question import SearchQuery

if TYPE_CHECKING:
    from marc_core.archive import SearchHit
    from marc_core.config import CompressConfig
    from marc_core.prepared import PrepareSettings
    from marc_core.question import Question
    from marc_core.searching import Searcher


class Chooser:
    """Chooses events of one archive. tokens_a_frame: the student's, for a budget of one frame."""

    def __init__(self, searcher: Searcher, settings: PrepareSettings, tokens_a_frame: int) -> None:
        self.archive, self.encoder = searcher.archive, searcher.encoder
        self.searcher, self.settings, self.tokens_a_frame = searcher, settings, tokens_a_frame
        self.tokens = settings.compress.mode == "tokens"

    def choose(self, questions: Sequence[Question]) -> list[Chosen]:
        """Return each question's events; see `Preparer.choose`."""
        timings: dict[str, float] = {}
        for question in questions:
            self._check(question)
        whole = [self._whole_video(question) for question in questions]
        left = [i for i, hits in enumerate(whole) if not hits]
        selections: dict[int, Selection] = {}
        if left:
            searched = [questions[i] for i in left]
            selections = dict(zip(left, self._selections(searched, timings), strict=True))
        return [
            _chosen(question, selections[i], timings)
            if i in selections
            else Chosen(question=question, hits=tuple(whole[i]), retrieval="bypassed")
            for i, question in enumerate(questions)
        ]

    def _check(self, question: Question) -> None:
        question_text(question.text, question.options)  # refuses what no prompt can be made of
        most = self.settings.retrieve.max_k
        if question.k is not None and not 1 <= question.k <= most:
            raise AnswerError(
                f"A question's k must be from 1 to retrieve.max_k, {most}. Got {question.k}."
            )

    def _k(self, question: Question) -> int:
        return self.settings.retrieve.k if question.k is None else question.k

    def _whole_video(self, question: Question) -> list[SearchHit]:
        """Return all events of the one video that is asked about, where they fit k; else none."""
        if self.tokens:
            return []  # how well each event fits decides its share
        videos, k = question.filter.video_ids, self._k(question)
        one = videos is not None and len(videos) == 1 and question.filter.names_only_videos
        if not (one and self.settings.retrieve.bypass_when_fits):
            return []
        everything = self.archive.events(question.filter, limit=k + 1)
        return everything if len(everything) <= k else []

    def _selections(
        self, questions: Sequence[Question], timings: dict[str, float]
    ) -> list[Selection]:
        """Search for all questions in one call, and return the selection of each."""
        with timed(timings, "embed"):
            vectors_QD = self.encoder.encode_texts([q.search_text for q in questions])
        with timed(timings, "retrieve"):
            rankings = self.archive.search([self._query(q) for q in questions], vectors_QD)
        for question, ranked in zip(questions, rankings, strict=True):
            if not ranked:
                raise NothingFoundError(self.archive.why_nothing(question.filter))
        if not self.tokens:
            return [Selection(events=tuple(ranked), matched=()) for ranked in rankings]
        selections = [self._selected(q, r) for q, r in zip(questions, rankings, strict=True)]
        asked = {
            i: WithOptions(question=q, selection=s, ranked=r, k=self._k(q), most=self._most(q))
            for i, (q, s, r) in enumerate(zip(questions, selections, rankings, strict=True))
            if asks_options(q, s)
        }
        found = narrow(self.archive, self.encoder, list(asked.values()), self._margin, timings)
        for i, selection in zip(asked, found, strict=True):
            selections[i] = selection
        return selections

    def _query(self, question: Question) -> SearchQuery:
        limit = max(POOL, self._k(question)) if self.tokens else self._k(question)
        return SearchQuery(
            text=question.search_text, filter=question.filter, limit=limit, paged=False
        )

    @property
    def _margin(self) -> float:
        return self.settings.retrieve.hit_margin or self.searcher.hit_margin

    def _most(self, question: Question) -> int:
        """Return how many events a question that names none may have: a token of each."""
        compress = self.settings.compress
        asked = asked_budget(question, compress)
        return (
            asked or compress.unnamed_budget_tokens or compress.budget_tokens or self.tokens_a_frame
        )

    def _selected(self, question: Question, ranked: Sequence[SearchHit]) -> Selection:
        return select(
            self.archive,
            ranked,
            question.filter,
            margin=self._margin,
            k=self._k(question),
            exact=question.k is not None,
            most=self._most(question),
        )


def asked_budget(question: Question, compress: CompressConfig) -> int | None:
    """Return the tokens that a question asks for, None for none. Raises AnswerError."""
    asked, most = question.budget_tokens, compress.max_budget_tokens
    if asked is not None and not 0 <= asked <= most:
        raise AnswerError(
            "budget_tokens must be from 0 (one frame's tokens) to compress.max_budget_tokens, "
            f"{most}. Got {asked}."
        )
    return asked


def _chosen(question: Question, selection: Selection, timings: dict[str, float]) -> Chosen:
    """Return the selection's events in order of time, with the places of those that are named."""
    hits = tuple(chronological(selection.events))
    places = {hit.event_id: place for place, hit in enumerate(hits)}
    return Chosen(
        question=question,
        hits=hits,
        retrieval="retrieved",
        matched=tuple(places[hit.event_id] for hit in selection.matched),
        timings_s=timings,
    )
