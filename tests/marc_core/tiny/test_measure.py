"""Ranks of retrieval, against an encoder whose every score is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from marc_core.tiny.footage import make_footage
from marc_core.tiny.measure import accuracy, retrieval_ranks
from marc_core.world import WorldConfig, make_questions, sample_video

SEEDS = (3, 4)


class KnownScores:
    """Frames of event e (counted over all videos) embed as unit vector e.

    A question scores `ahead` other events above the one that it names, and the rest below.
    """

    def __init__(self, ahead: int) -> None:
        config = WorldConfig()
        videos = [sample_video(seed, config) for seed in SEEDS]
        self.total, self._calls, self._owners, self._texts = 0, 0, [], {}
        for seed, video in zip(SEEDS, videos, strict=True):
            footage = make_footage(seed, config, size=config.size_px)
            self._owners.append(self.total + np.repeat(footage.event_T, 2))
            rivals = [e for v in videos if v is not video for e in v.events]
            for question in make_questions(video, seed=seed, per_type=1, rivals=rivals):
                if len(question.named) == 1:
                    self._texts[question.text] = self.total + question.named[0]
            self.total += len(video.events)
        self.ahead = ahead

    def encode_images(self, frames_NHWC: np.ndarray) -> np.ndarray:
        owner_N = self._owners[self._calls]
        self._calls += 1
        assert len(frames_NHWC) == len(owner_N)
        return np.eye(self.total, dtype=np.float32)[owner_N]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        named = self._texts[texts[0]]
        scores = np.zeros((1, self.total), np.float32)
        others = [e for e in range(self.total) if e != named]
        scores[0, others[: self.ahead]] = 1.0
        scores[0, named] = 0.5
        return scores


@pytest.mark.parametrize("ahead", [0, 2, 5])
def test_rank_counts_the_events_of_all_videos_that_score_higher(ahead: int) -> None:
    found = retrieval_ranks(KnownScores(ahead), SEEDS)  # type: ignore[arg-type]
    ranks = [rank for of_type in found.values() for rank in of_type]
    assert len(ranks) > 4
    assert set(ranks) == {ahead + 1}


def test_accuracy_weighs_questions_not_types() -> None:
    assert accuracy({"a": [1, 1, 0], "b": [0]}) == {"overall": 0.5, "a": 2 / 3, "b": 0.0}
