"""The synthetic video world: seedable videos with ground truth, questions and real mp4 files.

    sample_video(seed, config) -> WorldVideo -> render_frames | object_states | make_questions
                                             -> describe_event (captions), write_mp4

See docs/world.md for what is in it and how far a blind guesser gets.
"""

from marc_core.world.archive import ArchiveItem, write_archive
from marc_core.world.config import WorldConfig, archive_config
from marc_core.world.describe import describe_event, paraphrase_event
from marc_core.world.mp4 import mark_synthetic, write_mp4
from marc_core.world.phrases import vocabulary, words_of
from marc_core.world.questions import QUESTION_TYPES, make_questions
from marc_core.world.render import render_frames
from marc_core.world.scenes import sample_video
from marc_core.world.states import event_at, object_states
from marc_core.world.types import (
    ObjectState,
    Question,
    SceneChange,
    WorldEvent,
    WorldObject,
    WorldVideo,
)

__all__ = [
    "QUESTION_TYPES",
    "ArchiveItem",
    "ObjectState",
    "Question",
    "SceneChange",
    "WorldConfig",
    "WorldEvent",
    "WorldObject",
    "WorldVideo",
    "archive_config",
    "describe_event",
    "event_at",
    "make_questions",
    "mark_synthetic",
    "object_states",
    "paraphrase_event",
    "render_frames",
    "sample_video",
    "vocabulary",
    "words_of",
    "write_archive",
    "write_mp4",
]
