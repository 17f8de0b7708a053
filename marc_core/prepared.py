"""What a question is on its way to Evidence, the settings of that way, and what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from marc_core.compress import Hierarchy
from marc_core.compress.timeline import TRAINED_S
from marc_core.types import EventFeatures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marc_core.archive import SearchHit
    from marc_core.compress import CompressedVideo, CutTokens, StoredFeatures
    from marc_core.config import CompressConfig, MethodConfig, RetrieveConfig
    from marc_core.evidence import Evidence
    from marc_core.models.model_settings import ModelSettings
    from marc_core.models.prompt import PromptTemplate
    from marc_core.question import Question, Turn

Retrieval = Literal["retrieved", "bypassed"]
Origin = Literal["cached", "decoded"]
"""Where features came from: the archive, or its frames and the vision tower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareSettings:
    """What a deployment fixes about questions. Defaults stand in `marc_core.config`.

    max_frames: see `capped`. template: how the student wants a question with options to be put.
    trained_s: the longest video that it was trained on. facts: whether it is told in words where
    the events that a question names lie in their video. times_in_words: whether that is said of
    all events, because positions do not tell. frame_interval_s: between sampled frames.
    text_in_prompt: tokens of the events' text in the prompt at most. knows_footage: whether the
    student was trained on footage.
    """

    retrieve: RetrieveConfig
    compress: CompressConfig
    max_frames: int
    template: PromptTemplate
    trained_s: float = TRAINED_S
    facts: bool = False
    times_in_words: bool = False
    frame_interval_s: float = 1.0
    text_in_prompt: int = 0
    knows_footage: bool = True

    @classmethod
    def of(cls, config: MethodConfig, student: ModelSettings) -> PrepareSettings:
        """Return the settings of a configuration and of its student."""
        return cls(
            retrieve=config.retrieve,
            compress=config.compress,
            max_frames=config.student.max_frames,
            template=student.options_prompt,
            trained_s=student.max_seconds or TRAINED_S,
            facts=student.event_facts,
            times_in_words=config.student.temporal_positions == "grid",
            frame_interval_s=1.0 / config.video.sample_fps,
            text_in_prompt=config.answer.text_in_prompt,
            knows_footage=student.footage,
        )


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A question and its events, in the order in which they are shown.

    matched: positions among `hits` of the events that the question names, best first; none where
    it names no event, and where groups are merged. timings_s: wall-clock seconds of the call that
    chose them, all its questions together.
    """

    question: Question
    hits: tuple[SearchHit, ...]
    retrieval: Retrieval
    matched: tuple[int, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Uncut:
    """A question's events with their features, before any budget: what can be cut to any budget.

    features: of `chosen.hits`, in order; events that `capped` left without a group have none.
    source_tokens: visual tokens of these events without any compression. warning: why the answer
    is not to be trusted, where that is known before.
    """

    chosen: Chosen
    features: tuple[StoredFeatures, ...]
    origin: Origin
    source_tokens: int
    timings_s: dict[str, float] = field(default_factory=dict)
    warning: str | None = None

    @property
    def groups(self) -> list[EventFeatures]:
        """The features of a question whose groups are merged."""
        return [event for event in self.features if isinstance(event, EventFeatures)]

    @property
    def hierarchies(self) -> list[Hierarchy]:
        """The features of a question in mode tokens."""
        return [event for event in self.features if isinstance(event, Hierarchy)]


class Tower(Protocol):
    """What the fallback needs of `marc_core.models.vision_tower.VisionTower`."""

    def encode_events(
        self, events: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]
    ) -> list[EventFeatures]:
        """Return the uncompressed features of (frames (F, H, W, 3), times_s (F,))."""
        ...


class PromptParts(Protocol):
    """What a preparer needs of a student: its prompt, not its weights (`StudentFiles`)."""

    @property
    def tokens_a_frame(self) -> int:
        """Visual tokens of the largest frame that the student takes."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return the tokens of a text in a prompt."""
        ...

    def evidence(
        self,
        user_text: str,
        video: CompressedVideo | CutTokens | None,
        *,
        history: Sequence[Turn],
        **shown: Any,
    ) -> Evidence:
        """Return the Evidence of a user's turn about a compressed video. shown: the other fields
        of Evidence (choices, citations, retrieval, source_tokens)."""
        ...


Compressor = Callable[[Uncut, int], "CompressedVideo | CutTokens"]
"""(uncut, budget in tokens, 0 = one frame's) -> what the student sees. Anything that cuts can take
the merge's place: the evaluation's training-free baselines do."""


@contextmanager
def timed(timings: dict[str, float], step: str) -> Iterator[None]:
    """Add the wall-clock seconds that the block takes to those of a step."""
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[step] = timings.get(step, 0.0) + time.perf_counter() - started
