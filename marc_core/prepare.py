"""From questions to evidence, without a language model: what runs beside the archive.

    choose      questions -> embedded together -> their events, in order of time       [Chosen]
    load        their features from the archive, or from frames and the tower           [Uncut]
    compress    cut (or merged) to a budget of tokens, beside the prompt's ids       [Evidence]

Mode tokens is ours: events by `marc_core.chooser`, tokens by `marc_core.compress.tokens`, places
on one timeline by `marc_core.compress.timeline`. The other modes are the paper's top k and merge.

Honest differences from the paper: a question may be about a whole archive, so events of several
videos can meet in one prompt (in order of time within each); where groups are merged, retrieval is
skipped when one video is asked about and all of its events fit k, and a question's cap of frames
(`capped`) counts the groups that stage 1, which has run at index time, has left.

Letters: Q questions, D channels of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from marc_core.chooser import Chooser, asked_budget
from marc_core.choosing import asks_beside
from marc_core.compress import (
    CompressedVideo,
    CutTokens,
    capped,
    compress_across,
    cut_events,
    stored_form,
)
from marc_core.compress.share import BESIDE_SHARE, MAIN_SHARE
from marc_core.compress.timeline import Span, is_shortened, placed_starts
from marc_core.errors import MissingFeaturesError
from marc_core.evidence import Citation, Evidence, clock_time
from marc_core.footage import ANSWER_WARNING
from marc_core.frame_cap import cap_frames
from marc_core.models.prompt import Prompt, direct_prompt, event_facts
from marc_core.prepared import (
    Chosen,
    Compressor,
    PrepareSettings,
    PromptParts,
    Tower,
    Uncut,
    timed,
)
from marc_core.question import SearchQuery
from marc_core.searching import Searcher
from marc_core.told import said_block
from marc_core.types import EventFeatures

if TYPE_CHECKING:
    from marc_core.archive import Archive, SearchHit
    from marc_core.compress import StoredFeatures
    from marc_core.embed import DualEncoder
    from marc_core.question import Question


class Preparer:
    """Turns questions into evidence over one archive.

    tower: makes the features that the archive lacks, asked for when they are first needed; without
    one, missing features are an error. compressor: in place of the paper's merge.
    """

    def __init__(
        self,
        archive: Archive,
        encoder: DualEncoder,
        parts: PromptParts,
        settings: PrepareSettings,
        *,
        tower: Callable[[], Tower] | None = None,
        compressor: Compressor | None = None,
    ) -> None:
        self.archive, self.encoder, self.parts, self.settings = archive, encoder, parts, settings
        self._tower = tower
        own = self._cut if settings.compress.mode == "tokens" else self._merge
        self._compressor = compressor or own
        self._searcher = Searcher(archive, encoder)
        self._chooser = Chooser(self._searcher, settings, parts.tokens_a_frame)

    def search(self, queries: Sequence[SearchQuery]) -> list[list[SearchHit]]:
        """Return the page of events that each query asks for, best first. Raises AnswerError."""
        return self._searcher.search(queries)

    def choose(self, questions: Sequence[Question]) -> list[Chosen]:
        """Return each question's events in order of time; all questions are embedded in one call.

        Raises AnswerError for an empty question, a k above the ceiling, and where no event passes
        a question's filter.
        """
        return self._chooser.choose(questions)

    def load(self, chosen: Sequence[Chosen], *, max_tokens: int | None = None) -> list[Uncut]:
        """Return the events' features; an event of several questions is read once.

        max_tokens: the largest budget that they will be cut to; None reads all there is. Raises
        MissingFeaturesError where the archive lacks some and there is no tower; VideoError or
        SourceError where their source cannot be read.
        """
        timings: dict[str, float] = {}
        hits = {hit.event_id: hit for c in chosen for hit in c.hits}
        with timed(timings, "features"), torch.inference_mode():
            features, decoded = self._features(hits, max_tokens)
        return [self._uncut(c, features, decoded, timings) for c in chosen]

    def compress(
        self,
        uncut: Sequence[Uncut],
        budget_tokens: int | None = None,
        *,
        prompts: Sequence[Prompt] | None = None,
    ) -> list[Evidence]:
        """Return what the student reads of each.

        budget_tokens: for all of them; None takes each question's own, else the configured one.
        prompts: in place of MARC's own. Raises AnswerError for a budget above the ceiling or too
        small for one group.
        """
        if prompts is None:
            prompts = [self._prompt(u.chosen) for u in uncut]
        return [
            self._evidence(u, budget_tokens, prompt)
            for u, prompt in zip(uncut, prompts, strict=True)
        ]

    def prepare(self, questions: Sequence[Question]) -> list[Evidence]:
        """Choose, load and compress."""
        chosen = self.choose(questions)
        return self.compress(self.load(chosen, max_tokens=self.most_tokens(chosen)))

    def most_tokens(self, chosen: Sequence[Chosen]) -> int | None:
        """Return the largest budget of these questions; None where it is one frame's tokens."""
        budgets = [self._budget(c) for c in chosen]
        return None if 0 in budgets else max(budgets, default=None)

    # Loading

    def _features(
        self, hits: dict[str, SearchHit], max_tokens: int | None
    ) -> tuple[dict[str, StoredFeatures], set[str]]:
        """Return features by event id, and the ids of those that had to be made."""
        try:
            stored = self.archive.features(list(hits.values()), max_tokens=max_tokens)
            return dict(zip(hits, stored, strict=True)), set()
        except MissingFeaturesError as error:
            if self._tower is None:
                raise
            missing = set(error.event_ids)
        kept = [hit for event_id, hit in hits.items() if event_id not in missing]
        stored = self.archive.features(kept, max_tokens=max_tokens)
        found = dict(zip((h.event_id for h in kept), stored, strict=True))
        for event_id in hits:
            if event_id in missing:
                found[event_id] = self._encode(hits[event_id])
        return found, missing

    def _uncut(
        self,
        chosen: Chosen,
        features: dict[str, StoredFeatures],
        decoded: set[str],
        timings: dict[str, float],
    ) -> Uncut:
        own = [features[hit.event_id] for hit in chosen.hits]
        groups = [event for event in own if isinstance(event, EventFeatures)]
        return Uncut(
            chosen=chosen,
            features=tuple(capped(groups, self.settings.max_frames) if groups else own),
            origin="decoded" if any(h.event_id in decoded for h in chosen.hits) else "cached",
            source_tokens=sum(e.num_source_groups * e.grid_hw[0] * e.grid_hw[1] for e in own),
            timings_s=timings,
            warning=self._warning(chosen.hits),
        )

    def _warning(self, hits: Sequence[SearchHit]) -> str | None:
        """Return what is said of an answer about footage, where the student knows none."""
        blind = not self.settings.knows_footage and any(hit.synthetic is False for hit in hits)
        return ANSWER_WARNING if blind else None

    def _encode(self, hit: SearchHit) -> StoredFeatures:
        """Return an event's features from its frames, as indexing makes them."""
        assert self._tower is not None, "the caller has checked"
        frames_FHWC, times_F = self.archive.frames(hit)
        kept = cap_frames(np.arange(len(times_F)), self.settings.max_frames)
        (features,) = self._tower().encode_events([(frames_FHWC[kept], times_F[kept])])
        return stored_form(features, self.settings.compress)

    # Compressing

    def _merge(self, uncut: Uncut, budget_tokens: int) -> CompressedVideo:
        return compress_across(uncut.groups, self.settings.compress, budget_tokens=budget_tokens)

    def _cut(self, uncut: Uncut, budget_tokens: int) -> CutTokens:
        cut = cut_events(
            uncut.hierarchies,
            uncut.chosen.matched,
            budget_tokens,
            main_share=BESIDE_SHARE if asks_beside(uncut.chosen.question.text) else MAIN_SHARE,
        )
        hits = uncut.chosen.hits
        starts_E = placed_starts(spans_of(hits), self.settings.trained_s)
        shift_E = starts_E - np.array([hit.start_s for hit in hits])
        return replace(
            cut,
            seconds_N=cut.seconds_N + shift_E[cut.events_N],
            frame_interval_s=self.settings.frame_interval_s,
        )

    def _prompt(self, chosen: Chosen) -> Prompt:
        """Return MARC's own prompt, with what is told in words: where the events lie, and what is
        said and written in them."""
        prompt = direct_prompt(chosen.question, self.settings.template)
        blocks = [block for block in (self._facts(chosen), self._said(chosen)) if block]
        return replace(prompt, text="\n".join([*blocks, prompt.text])) if blocks else prompt

    def _facts(self, chosen: Chosen) -> str:
        if self.settings.compress.mode != "tokens":
            return ""
        told = [chosen.hits[i] for i in self._told(chosen)]
        if not told:
            return ""
        return event_facts(told, self.archive.lengths([hit.video_id for hit in told]))

    def _said(self, chosen: Chosen) -> str:
        budget = self.settings.text_in_prompt
        ids = [hit.event_id for hit in chosen.hits if hit.text]
        if not budget or not ids:
            return ""
        question = chosen.question.search_text
        return said_block(
            chosen.hits, self.archive.texts(ids), question, budget, self.parts.count_tokens
        )

    def _told(self, chosen: Chosen) -> Sequence[int]:
        """Return the positions among the events of those whose place is said in words.

        Of all where positions do not tell; but where times are shortened, a student that was
        trained to read where the named events lie reads of these alone: with a line for each
        neighbour it cannot tell which is meant (docs/compression.md).
        """
        spans = spans_of(chosen.hits)
        everything = range(len(spans))
        if self.settings.times_in_words:
            return everything
        if self.settings.facts and chosen.matched:
            return sorted(chosen.matched)
        starts_E = placed_starts(spans, self.settings.trained_s)
        return everything if is_shortened(spans, starts_E) else ()

    def _budget(self, chosen: Chosen) -> int:
        compress = self.settings.compress
        asked = asked_budget(chosen.question, compress)
        if asked is not None:
            return asked
        if compress.mode == "tokens" and not chosen.matched:
            return compress.unnamed_budget_tokens or compress.budget_tokens
        return compress.budget_tokens

    def _evidence(self, uncut: Uncut, budget_tokens: int | None, prompt: Prompt) -> Evidence:
        chosen = uncut.chosen
        budget = self._budget(chosen) if budget_tokens is None else budget_tokens
        with torch.inference_mode():
            video = self._compressor(uncut, budget)
        scored = chosen.retrieval == "retrieved"
        return self.parts.evidence(
            prompt.text,
            video,
            history=prompt.history,
            choices=prompt.choices,
            citations=tuple(citation(hit, scored=scored) for hit in chosen.hits),
            retrieval=chosen.retrieval,
            source_tokens=uncut.source_tokens,
        )


def spans_of(hits: Sequence[SearchHit]) -> list[Span]:
    """Return the events' stretches from their videos' own 0:00."""
    return [
        Span(hit.video_id, hit.start_s - hit.video_start_s, hit.end_s - hit.video_start_s)
        for hit in hits
    ]


def citation(hit: SearchHit, *, scored: bool) -> Citation:
    """Return a hit as evidence carries it; without scores where nothing was ranked."""
    return Citation(
        event_id=hit.event_id,
        video_id=hit.video_id,
        uri=hit.uri,
        start_s=hit.start_s,
        end_s=hit.end_s,
        video_start_s=hit.video_start_s,
        recorded_from=clock_time(hit.recorded_from),
        score=hit.score if scored else None,
        cosine=hit.cosine if scored else None,
    )
