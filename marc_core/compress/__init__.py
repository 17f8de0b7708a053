"""Memory-aware temporal compression: many temporal groups become few (paper, section 3.2)."""

from marc_core.compress.merge import apply_plan, merge_plan, similarity_gram
from marc_core.compress.stages import (
    CompressedVideo,
    compress_across,
    compress_event,
    groups_for_tokens,
    stage1_target,
    tokens_of,
)

__all__ = [
    "CompressedVideo",
    "apply_plan",
    "compress_across",
    "compress_event",
    "groups_for_tokens",
    "merge_plan",
    "similarity_gram",
    "stage1_target",
    "tokens_of",
]
