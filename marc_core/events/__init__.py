"""Events: shot boundaries (TransNetV2), change points inside long shots, both made into events."""

from marc_core.events.change_points import change_points
from marc_core.events.segment import frames_to_add, seam_at, segment
from marc_core.events.shots import ShotDetector, Transition, transitions
from marc_core.events.thinning import ThinnedDetector
from marc_core.events.transnet import TransNetV2
from marc_core.events.weights import load_transnet

__all__ = [
    "ShotDetector",
    "ThinnedDetector",
    "TransNetV2",
    "Transition",
    "change_points",
    "frames_to_add",
    "load_transnet",
    "seam_at",
    "segment",
    "transitions",
]
