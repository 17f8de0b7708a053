"""Configuration of the synthetic video world. All values are our choice; the paper has no world.

Lengths inside a frame are fractions of its side, so that a video looks the same at every size.
"""

from __future__ import annotations

from dataclasses import dataclass

from marc_core.bounds import check_bounds, number
from marc_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """How videos are drawn from the world. The same seed and configuration give the same video."""

    salt: int = number(0, least=0)
    """Added to every random stream: another salt gives an independent world of videos."""
    fps: int = number(10, least=1, most=60)
    """Frames per second of mp4 files; arrays are rendered at any time."""
    size_px: int = number(112, least=16, most=4096)
    """Side of a rendered frame in pixels, 16 or more; mp4 files need an even number."""
    min_scenes: int = number(3, least=1)
    """Fewest scenes (= events) of a video."""
    max_scenes: int = number(6, least=1)
    """Most scenes of a video; ignored when `min_duration_s` is set."""
    min_duration_s: float = number(0.0, least=0)
    """Above 0: scenes are added until the video lasts this long (archives: 60 - 600 s)."""
    scene_lengths_s: tuple[float, ...] = number((2.2, 4.0, 6.0, 9.0), least=2, most=10)
    """Scene lengths in seconds, all equally likely, 2 - 10 s. Well apart, so that "how long" has
    one right option."""
    scene_jitter_s: float = number(0.4, least=0, most=1)
    """A scene is longer or shorter than its length by at most this (2.2 s: by at most 0.2 s)."""
    min_objects: int = number(1, least=1, most=4)
    """Fewest objects of a scene."""
    max_objects: int = number(3, least=1, most=4)
    """Most objects of a scene, at most 4."""
    extra_action: float = number(0.3, least=0, most=1)
    """Probability that a bystander acts, too (blinks, grows, ...)."""
    actions: tuple[str, ...] = ()
    """Actions of the main object; empty means all (`marc_core.world.words.ACTIONS`)."""
    cut_weight: float = number(0.6, least=0)
    """Relative frequency of hard cuts between scenes."""
    dissolve_weight: float = number(0.25, least=0)
    """Relative frequency of dissolves (0.4 - 0.8 s)."""
    slow_weight: float = number(0.15, least=0)
    """Relative frequency of slow changes (1.2 - 2 s)."""
    noise: int = number(5, least=0, most=60)
    """Largest noise amplitude of a pixel, of 255. 0 switches noise off."""
    brightness_drift: int = number(14, least=0, most=60)
    """Largest slow brightness change, of 255. 0 switches it off."""
    shake: float = number(0.012, least=0, most=0.05)
    """Largest camera shake as a fraction of the side. 0 switches it off."""

    def __post_init__(self) -> None:
        """Raise ConfigError for the first value that breaks a rule."""
        object.__setattr__(self, "scene_lengths_s", tuple(self.scene_lengths_s))
        object.__setattr__(self, "actions", tuple(self.actions))
        check_bounds(self, "WorldConfig.")
        for rule, ok in _rules(self):
            if not ok:
                name = rule.split()[0].rstrip(",")
                raise ConfigError(f"WorldConfig: {rule}. Got {getattr(self, name)}.")


def _rules(c: WorldConfig) -> tuple[tuple[str, bool], ...]:
    """Return what several values must be to one another, and whether they are."""
    from marc_core.world.words import ACTIONS

    weights = (c.cut_weight, c.dissolve_weight, c.slow_weight)
    return (
        ("max_scenes must be at least min_scenes", c.max_scenes >= c.min_scenes),
        ("scene_lengths_s must not be empty", bool(c.scene_lengths_s)),
        ("max_objects must be at least min_objects", c.max_objects >= c.min_objects),
        (f"actions must be among {', '.join(ACTIONS)}", set(c.actions) <= set(ACTIONS)),
        ("cut_weight, dissolve_weight, slow_weight must not all be 0", sum(weights) > 0),
    )


def archive_config(*, min_duration_s: float = 60.0, size_px: int = 224) -> WorldConfig:
    """Return the configuration of archive videos: `min_duration_s` long (60 - 600) or a scene more.

    Raises ConfigError when a value is out of range.
    """
    return WorldConfig(min_duration_s=min_duration_s, size_px=size_px)
