"""What was computed of a video, and with which settings: names that change when the result would.

    cuts        where events begin and end       video and event settings
    embeddings  how events are found             the dual encoder
    features    what a student reads of them     the vision tower and stage 1
    texts       what is said beside the video    the files beside it

Each names one thing, so that only what differs is redone. A new cut redoes everything, because the
rest describes the events that it made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from marc_core.config import CompressConfig, IndexConfig, MethodConfig, fingerprint

_CUTTING = 2
"""Counts the changes of what the same settings cut: 2 splits long events on a grid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprints:
    """Of everything that decides a video's rows. features: None where none are stored."""

    cuts: str
    embeddings: str
    features: str | None

    def columns(self) -> dict[str, str | None]:
        """Return the columns of `videos` that hold them."""
        return {
            "cuts_fingerprint": self.cuts,
            "embeddings_fingerprint": self.embeddings,
            "features_fingerprint": self.features,
        }

    def match(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row of `videos` was made with all of these."""
        return all(row[name] == value for name, value in self.columns().items())


def fingerprints_of(
    config: IndexConfig, encoder_fingerprint: str, vision_fingerprint: str | None
) -> Fingerprints:
    """Return the fingerprints of videos that are indexed with `config` and these models.

    vision_fingerprint: None where no features are stored. Operational settings (time limits,
    numbers of workers) are left out.
    """
    video = config.video
    return Fingerprints(
        cuts=fingerprint(
            (
                video.backend,
                video.sample_fps,
                video.max_sampled_frames,
                video.part_s,
                video.frame_max_pixels,
            ),
            config.events,
            _CUTTING,
        ),
        embeddings=embeddings_name(encoder_fingerprint),
        features=joined_name(features_names(vision_fingerprint, config))
        if vision_fingerprint
        else None,
    )


def embeddings_name(encoder_fingerprint: str) -> str:
    """Return what `videos` calls the embeddings that this encoder made."""
    return fingerprint(encoder_fingerprint)


def features_names(vision_fingerprint: str, config: MethodConfig) -> dict[str, CompressConfig]:
    """Return what a memory keeps of an event: the name of each form, and how it is made.

    One form, or with `memory.store_groups` the paper's groups beside the hierarchy.
    """
    compress = [config.compress]
    if config.memory.store_groups and config.compress.mode == "tokens":
        compress.append(replace(config.compress, mode="plain"))
    return {features_name(vision_fingerprint, replace(config, compress=c)): c for c in compress}


def joined_name(names: Iterable[str]) -> str:
    """Return the `features_fingerprint` of a video whose features have these names."""
    distinct = sorted(set(names))
    return distinct[0] if len(distinct) == 1 else fingerprint(distinct)


def features_name(vision_fingerprint: str, config: MethodConfig) -> str:
    """Return the name under which an event's features are stored and looked up.

    It changes with everything that decides them besides the frames: tower, cap, stage 1. The
    language model is not part of it: one trained further with its tower frozen reads them, too.
    """
    from marc_core.compress.stages import stage1_fingerprint

    return stage1_fingerprint(
        fingerprint(vision_fingerprint, config.student.max_frames), config.compress
    )
