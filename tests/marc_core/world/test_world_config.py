"""Wrong configurations are refused with the rule; the shared loader reads right ones."""

from __future__ import annotations

from typing import Any

import pytest

from marc_core.config import load_config
from marc_core.errors import ConfigError
from marc_core.world import WorldConfig, archive_config, make_questions, sample_video


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"fps": 0}, "WorldConfig.fps must be at least 1 and at most 60. Got 0"),
        ({"size_px": 8}, "size_px must be at least 16"),
        ({"min_scenes": 4, "max_scenes": 3}, "max_scenes must be at least min_scenes"),
        (
            {"scene_lengths_s": (1.0,)},
            "scene_lengths_s.0 must be at least 2 and at most 10",
        ),
        ({"max_objects": 5}, "max_objects must be at least 1 and at most 4"),
        ({"actions": ("flies",)}, "actions must be among"),
        ({"cut_weight": 0, "dissolve_weight": 0, "slow_weight": 0}, "must not all be 0"),
        ({"noise": -1}, "noise must be at least 0"),
        ({"shake": 0.2}, "shake must be at least 0 and at most 0.05"),
    ],
)
def test_wrong_value_is_refused_with_its_rule(values: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        WorldConfig(**values)


def test_loader_reads_lists_into_an_equal_hashable_config() -> None:
    loaded = load_config(WorldConfig, overrides=["scene_lengths_s=[4.0]", "actions=[moves]"])
    expected = WorldConfig(scene_lengths_s=(4.0,), actions=("moves",))
    assert loaded == expected
    assert hash(loaded) == hash(expected)


def test_negative_seeds_and_unknown_types_are_refused() -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        sample_video(-1)
    with pytest.raises(ConfigError, match="must not be negative"):
        make_questions(sample_video(0), seed=-1)
    with pytest.raises(ConfigError, match="must be among"):
        make_questions(sample_video(0), seed=0, types=("smell",))


def test_archive_videos_last_as_long_as_asked_or_one_scene_more() -> None:
    for minimum_s in (60.0, 600.0):
        video = sample_video(1, archive_config(min_duration_s=minimum_s))
        assert minimum_s <= video.duration_s < minimum_s + 10
