"""Videos of many scenes among those that the teacher is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from marc_core.errors import ConfigError
from marc_core.tiny.config import StageConfig
from marc_core.tiny.footage import RENDER_SIZES, train_seed
from marc_core.tiny.tasks import draw_footage


def test_a_share_of_the_videos_has_up_to_long_scenes() -> None:
    """Half of the videos are long here: more scenes than max_scenes, at most long_scenes; all of
    their scenes are in the 64 frames."""
    stage = StageConfig(min_scenes=3, max_scenes=4, long_share=0.5, long_scenes=12)
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(24):
        footage = draw_footage(stage, rng)
        counts.append(len(footage.video.events))
        assert set(footage.event_T) == set(range(counts[-1]))
    assert 6 <= sum(count > 4 for count in counts) <= 18
    assert min(counts) >= 3
    assert max(counts) <= 12
    assert any(count > 8 for count in counts)


def test_without_long_videos_the_draws_are_those_of_before() -> None:
    """A share of 0 draws no random number more: earlier runs can be made again."""
    stage = StageConfig(min_scenes=3, max_scenes=4, single_share=0.0)
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    footage = draw_footage(stage, rng)
    twin.random()  # single_share
    assert footage.video.seed == train_seed(twin)
    twin.choice(RENDER_SIZES)
    assert rng.random() == twin.random()


def test_long_scenes_below_max_scenes_are_refused() -> None:
    """Long videos must be the longer ones."""
    with pytest.raises(ConfigError, match="long_scenes must be at least max_scenes"):
        StageConfig(max_scenes=6, long_share=0.5, long_scenes=5)
