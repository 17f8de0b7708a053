"""Memory-aware temporal compression: many temporal groups become few (paper, section 3.2)."""

from marc_core.compress.capping import capped
from marc_core.compress.hierarchy import Hierarchy, event_hierarchy
from marc_core.compress.merge import apply_plan, merge_plan, similarity_gram
from marc_core.compress.stages import (
    CompressedVideo,
    StoredFeatures,
    compress_across,
    compress_event,
    groups_for_tokens,
    stage1_target,
    stored_form,
    tokens_of,
)
from marc_core.compress.tokens import CutTokens, cut_events

__all__ = [
    "CompressedVideo",
    "CutTokens",
    "Hierarchy",
    "StoredFeatures",
    "apply_plan",
    "capped",
    "compress_across",
    "compress_event",
    "cut_events",
    "event_hierarchy",
    "groups_for_tokens",
    "merge_plan",
    "similarity_gram",
    "stage1_target",
    "stored_form",
    "tokens_of",
]
