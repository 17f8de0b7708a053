"""One video's way into a training set: the function that a worker calls.

    footage --text encoder, vision tower--> archive in memory   (everything once a video)
      each question: choose events -> load -> cut to a drawn budget -> Evidence -> row

The way from a question to its Evidence is the product's own (`Preparer`), so that a student is
trained on exactly what it will be asked with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.evaluation.variants.footage_archive import FootageArchive
from marc_core.models.prompt import choices_of
from marc_core.models.student_files import StudentFiles
from marc_core.prepare import Preparer
from marc_core.prepared import Chosen, PrepareSettings
from marc_core.question import EventFilter, Question
from marc_core.rl.samples import TrainSample

if TYPE_CHECKING:
    from marc_core.embed import DualEncoder
    from marc_core.evaluation.datasets.sample import Sample
    from marc_core.evaluation.variants.footage import Footage
    from marc_core.evidence import Evidence
    from marc_core.models.vision_tower import VisionTower
    from marc_core.train_set.config import TrainSetConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question with what is known of its answer.

    answers: right wordings as `TrainSample.answers`; the first is the one to be learned.
    """

    sample: Sample
    answers: tuple[str, ...]


class RowMaker:
    """Holds text encoder and vision tower, and makes the rows of one video after another.

    Raises ModelLoadError where a model cannot be loaded.
    """

    def __init__(self, config: TrainSetConfig, encoder: DualEncoder) -> None:
        self.config, self.encoder = config, encoder
        self.files = StudentFiles(config.student)
        self.settings = dataclasses.replace(
            PrepareSettings.of(config, self.files.settings), facts=config.event_facts
        )

    @cached_property
    def tower(self) -> VisionTower:
        """The tower that makes the features."""
        from marc_core.models.vision_tower import VisionTower

        return VisionTower(self.config.student)

    def rows(self, footage: Footage, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        """Return a row of `ROWS` for each question. Raises AnswerError where one cannot be put."""
        archive = self._archive(footage)
        questions = [self._question(a.sample, footage) for a in asked]
        evidence = self._preparer(archive).prepare(questions)
        teacher = [b""] * len(asked)
        if self.config.store_teacher:
            teacher = [e.to_bytes() for e in self._teacher(archive, questions)]
        return [
            _row(a, q, e) | {"teacher": t}
            for a, q, e, t in zip(asked, questions, evidence, teacher, strict=True)
        ]

    def teacher(self, footage: Footage, questions: Sequence[Question]) -> list[Evidence]:
        """Return what the teacher reads of each question: all frames of the video, at most
        `student.max_frames`, uncompressed."""
        return self._teacher(self._archive(footage), questions)

    def _archive(self, footage: Footage) -> FootageArchive:
        return FootageArchive(
            [footage],
            encoder=self.encoder,
            tower=self.tower,
            compress=self.config.compress,
            max_frames=self.config.student.max_frames,
        )

    def _preparer(self, archive: FootageArchive) -> Preparer:
        return Preparer(archive, self.encoder, self.files, self.settings)

    def _teacher(self, archive: FootageArchive, questions: Sequence[Question]) -> list[Evidence]:
        compress = dataclasses.replace(self.config.compress, mode="none")
        settings = dataclasses.replace(self.settings, compress=compress, facts=False)
        preparer = Preparer(archive, self.encoder, self.files, settings)
        chosen = [
            Chosen(
                question=dataclasses.replace(question, budget_tokens=None),
                hits=tuple(archive.hits),
                retrieval="bypassed",
            )
            for question in questions
        ]
        most = self.config.student.max_frames
        return preparer.compress([archive.sampled(c, most_frames=most) for c in chosen])

    def _question(self, sample: Sample, footage: Footage) -> Question:
        return Question(
            text=sample.problem,
            options=tuple(choices_of(sample.options)),
            filter=EventFilter(
                video_ids=(footage.video_id,),
                start_s=sample.clip_start_s,
                end_s=sample.clip_end_s,
            ),
            budget_tokens=drawn_budget(self.config.budgets, self.config.seed, sample.path),
        )


def drawn_budget(budgets: Sequence[int], seed: int, path: str) -> int:
    """Return one of the budgets, by seed and video: questions of a video that name the same event
    then read the same tokens, which training computes once for all of them."""
    rng = np.random.default_rng([seed, *path.encode()])
    return int(budgets[int(rng.integers(len(budgets)))])


def _row(asked: Asked, question: Question, evidence: Evidence) -> dict[str, Any]:
    sample = asked.sample
    return TrainSample(
        id=sample.problem_id,
        question=question,
        problem_type=sample.problem_type,
        answers=asked.answers,
        media=sample.data_type,
        source=f"{sample.benchmark}/{sample.task}" if sample.task else sample.benchmark,
        evidence=evidence.to_bytes(),
    ).to_row()
