"""From a seed to a video: number and length of scenes, backgrounds, transitions, objects.

sample_video -> _layout (stream LAYOUT)  -> sample_objects per event (stream EVENT, index)
"""

from __future__ import annotations

from marc_core.errors import ConfigError
from marc_core.world.actors import sample_objects
from marc_core.world.config import WorldConfig
from marc_core.world.streams import Purpose, Stream
from marc_core.world.types import SceneChange, SceneChangeKind, WorldEvent, WorldVideo
from marc_core.world.words import BACKGROUNDS

TICKS_PER_S = 10
"""Scenes begin and end on tenths of a second, whatever the frame rate of the mp4 file."""


def sample_video(seed: int, config: WorldConfig | None = None) -> WorldVideo:
    """Return the video of `seed`: the same for the same seed and configuration, everywhere.

    Raises ConfigError when `seed` is negative.
    """
    config = config or WorldConfig()
    if seed < 0:
        raise ConfigError(f"A world seed must not be negative. Got {seed}.")
    layout = Stream(Purpose.LAYOUT, config.salt, seed)
    lengths = _lengths(layout, config)
    places = _places(layout, len(lengths))
    starts = [0]
    for ticks in lengths:
        starts.append(starts[-1] + ticks)
    transitions = _transitions(layout, config, lengths, starts)
    fade = [0.0, *(t.length_s / 2 for t in transitions), 0.0]
    events = []
    for i, ticks in enumerate(lengths):
        stream = Stream(Purpose.EVENT, config.salt, seed, i)
        events.append(
            WorldEvent(
                index=i,
                start_s=starts[i] / TICKS_PER_S,
                end_s=starts[i + 1] / TICKS_PER_S,
                background=places[i],
                phase=(stream.below(8) / 8, stream.below(8) / 8),
                objects=sample_objects(stream, config, ticks / TICKS_PER_S, fade[i], fade[i + 1]),
            )
        )
    camera = Stream(Purpose.CAMERA, config.salt, seed)
    return WorldVideo(
        seed=seed,
        config=config,
        events=tuple(events),
        transitions=tuple(transitions),
        camera_seed=camera.below(1 << 48),
    )


def _lengths(stream: Stream, config: WorldConfig) -> list[int]:
    """Return the scenes' lengths in ticks."""
    count = stream.between(config.min_scenes, config.max_scenes)
    least = config.min_duration_s * TICKS_PER_S
    lengths: list[int] = []
    while len(lengths) < count if least == 0 else sum(lengths) < least:
        base = stream.choice(config.scene_lengths_s)
        jitter = min(config.scene_jitter_s, base - 2.0, 10.0 - base)
        lengths.append(round(stream.uniform(base - jitter, base + jitter) * TICKS_PER_S))
    return lengths


def _places(stream: Stream, count: int) -> list[str]:
    """Return `count` backgrounds: every one once before any comes again, no two alike in a row."""
    places: list[str] = []
    while len(places) < count:
        cycle = stream.shuffled(list(BACKGROUNDS))
        if places and cycle[0] == places[-1]:
            cycle = [*cycle[1:], cycle[0]]
        places += cycle
    return places[:count]


def _transitions(
    stream: Stream, config: WorldConfig, lengths: list[int], starts: list[int]
) -> list[SceneChange]:
    kinds: tuple[SceneChangeKind, ...] = ("cut", "dissolve", "slow")
    weights = (config.cut_weight, config.dissolve_weight, config.slow_weight)
    wanted = {"cut": (0.0, 0.0), "dissolve": (0.4, 0.8), "slow": (1.2, 2.0)}
    transitions = []
    for i in range(1, len(lengths)):
        kind = stream.weighted(kinds, weights)
        longest = 0.4 * min(lengths[i - 1], lengths[i]) / TICKS_PER_S
        length_s = min(stream.uniform(*wanted[kind]), longest)
        transitions.append(
            SceneChange(index=i, time_s=starts[i] / TICKS_PER_S, length_s=length_s, kind=kind)
        )
    return transitions
