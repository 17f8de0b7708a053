"""One question to train on, as plain data: what a training set holds a row of.

    training set --rows--> TrainSample --Evidence--> rollouts --> Group (marc_core.rl.group)

Nothing here knows how a row was made or where it travels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from marc_core.errors import TrainingError
from marc_core.evidence import Evidence
from marc_core.question import Question
from marc_core.scoring.options import PROBLEM_TYPES, ProblemType


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSample:
    """A question, what is known of its answer, and what the student reads of the video.

    id: unique in the training set; teacher answers are cached by it. question: as it is asked.
    problem_type: how answers are scored. answers: right wordings (a letter, a number, texts), the
    best match counts; none where no right answer is known. media: an image takes part without
    retention reward (paper, section 4). source: the data set, for tables.
    evidence: Evidence.to_bytes at the budget of the run; empty where `uncut` is cut at each step.
    uncut: features before any budget, as whoever wrote the training set stored them.
    """

    id: str
    question: Question
    problem_type: ProblemType
    answers: tuple[str, ...] = ()
    media: Literal["video", "image"] = "video"
    source: str = ""
    evidence: bytes = b""
    uncut: bytes = b""

    @property
    def is_image(self) -> bool:
        """Whether the sample takes part without retention reward."""
        return self.media == "image"

    def student_evidence(self) -> Evidence:
        """Return what the student reads. Raises TrainingError where the row has none."""
        if not self.evidence:
            raise TrainingError(
                f"Training sample '{self.id}' must hold evidence. Got none: cut its features to "
                "a budget first, or write the training set with evidence."
            )
        return Evidence.from_bytes(self.evidence)

    def to_row(self) -> dict[str, Any]:
        """Return plain values, one a column of a table, for `from_row`."""
        return {
            "id": self.id,
            "question": json.dumps(self.question.to_json(), sort_keys=True),
            "problem_type": self.problem_type,
            "answers": list(self.answers),
            "media": self.media,
            "source": self.source,
            "evidence": self.evidence,
            "uncut": self.uncut,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> TrainSample:
        """Return the sample that `to_row` wrote. Raises TrainingError for another row."""
        try:
            question = Question.from_json(json.loads(row["question"]))
            kind, media = str(row["problem_type"]), str(row["media"])
            if kind not in PROBLEM_TYPES or media not in ("video", "image"):
                raise ValueError(f"problem_type '{kind}', media '{media}'")
            return cls(
                id=str(row["id"]),
                question=question,
                problem_type=cast(ProblemType, kind),
                answers=tuple(str(text) for text in row["answers"]),
                media=cast(Literal["video", "image"], media),
                source=str(row["source"]),
                evidence=bytes(row["evidence"]),
                uncut=bytes(row["uncut"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"A row of a training set must be one that TrainSample.to_row wrote. Got "
                f"'{row.get('id', '?')}': {type(error).__name__}: {error}. Write the set again."
            ) from error
