"""Configuration of the synthetic video world. All values are our choice; the paper has no world.

Lengths inside a frame are fractions of its side, so that a video looks the same at every size.
"""

from __future__ import annotations

from dataclasses import dataclass

from marc_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """How videos are drawn from the world. The same seed and configuration give the same video."""

    salt: int = 0
    """Added to every random stream: another salt gives an independent world of videos."""
    fps: int = 10
    """Frames per second of mp4 files; arrays are rendered at any time."""
    size_px: int = 112
    """Side of a rendered frame in pixels, 16 or more; mp4 files need an even number."""
    min_scenes: int = 3
    """Fewest scenes (= events) of a video."""
    max_scenes: int = 6
    """Most scenes of a video; ignored when `min_duration_s` is set."""
    min_duration_s: float = 0.0
    """Above 0: scenes are added until the video lasts this long (archives: 60 - 600 s)."""
    scene_lengths_s: tuple[float, ...] = (2.2, 4.0, 6.0, 9.0)
    """Scene lengths in seconds, all equally likely, 2 - 10 s. Well apart, so that "how long" has
    one right option."""
    scene_jitter_s: float = 0.4
    """A scene is longer or shorter than its length by at most this (2.2 s: by at most 0.2 s)."""
    min_objects: int = 1
    """Fewest objects of a scene."""
    max_objects: int = 3
    """Most objects of a scene, at most 4."""
    extra_action: float = 0.3
    """Probability that a bystander acts, too (blinks, grows, ...)."""
    actions: tuple[str, ...] = ()
    """Actions of the main object; empty means all (`marc_core.world.words.ACTIONS`)."""
    cut_weight: float = 0.6
    """Relative frequency of hard cuts between scenes."""
    dissolve_weight: float = 0.25
    """Relative frequency of dissolves (0.4 - 0.8 s)."""
    slow_weight: float = 0.15
    """Relative frequency of slow changes (1.2 - 2 s)."""
    noise: int = 5
    """Largest noise amplitude of a pixel, of 255. 0 switches noise off."""
    brightness_drift: int = 14
    """Largest slow brightness change, of 255. 0 switches it off."""
    shake: float = 0.012
    """Largest camera shake as a fraction of the side. 0 switches it off."""

    def __post_init__(self) -> None:
        """Raise ConfigError for the first value that breaks a rule."""
        object.__setattr__(self, "scene_lengths_s", tuple(self.scene_lengths_s))
        object.__setattr__(self, "actions", tuple(self.actions))
        for rule, ok in _rules(self):
            if not ok:
                name = rule.split()[0].rstrip(",")
                raise ConfigError(f"WorldConfig: {rule}. Got {getattr(self, name)}.")


def _rules(c: WorldConfig) -> tuple[tuple[str, bool], ...]:
    from marc_core.world.words import ACTIONS

    weights = (c.cut_weight, c.dissolve_weight, c.slow_weight)
    return (
        ("fps must be in 1 - 60", 1 <= c.fps <= 60),
        ("size_px must be in 16 - 4096", 16 <= c.size_px <= 4096),
        ("min_scenes must be 1 or more", c.min_scenes >= 1),
        ("max_scenes must be at least min_scenes", c.max_scenes >= c.min_scenes),
        ("min_duration_s must not be negative", c.min_duration_s >= 0),
        ("scene_lengths_s must not be empty", bool(c.scene_lengths_s)),
        ("scene_lengths_s must be in 2 - 10", all(2 <= x <= 10 for x in c.scene_lengths_s)),
        ("scene_jitter_s must be in 0 - 1", 0 <= c.scene_jitter_s <= 1),
        ("min_objects must be 1 or more", c.min_objects >= 1),
        ("max_objects must be in min_objects - 4", c.min_objects <= c.max_objects <= 4),
        ("extra_action must be in 0 - 1", 0 <= c.extra_action <= 1),
        (f"actions must be among {', '.join(ACTIONS)}", set(c.actions) <= set(ACTIONS)),
        ("cut_weight, dissolve_weight, slow_weight must not be negative", min(weights) >= 0),
        ("cut_weight, dissolve_weight, slow_weight must not all be 0", sum(weights) > 0),
        ("noise must be in 0 - 60", 0 <= c.noise <= 60),
        ("brightness_drift must be in 0 - 60", 0 <= c.brightness_drift <= 60),
        ("shake must be in 0 - 0.05", 0 <= c.shake <= 0.05),
    )


def archive_config(*, min_duration_s: float = 60.0, size_px: int = 224) -> WorldConfig:
    """Return the configuration of archive videos: `min_duration_s` long (60 - 600) or a scene more.

    Raises ConfigError when a value is out of range.
    """
    return WorldConfig(min_duration_s=min_duration_s, size_px=size_px)
