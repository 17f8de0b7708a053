"""What a video of the world is: events, objects, transitions, and the questions about them.

Everything is plain, frozen and hashable; nothing here draws anything. Positions and radii are
fractions of the frame's side, x to the right, y downwards; times inside an object are seconds
since its event's start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from marc_core.world.config import WorldConfig

SceneChangeKind = Literal["cut", "dissolve", "slow"]
QuestionKind = Literal["multiple_choice", "open", "numerical"]
Category = Literal["static", "temporal"]
Scope = Literal["within-event", "across-events"]


@dataclass(frozen=True, kw_only=True)
class WorldObject:
    """One object of an event.

    path: (time, x, y) knots, straight between them, constant outside.
    radii: (time, radius) knots, straight between them. A shape fills about [-radius, radius].
    colours, shapes, shown: (time, value) steps, each valid until the next; the first is at 0.
    layer: higher layers cover lower ones.
    partner: index of the other object of "hits", "passes" and "hides".
    """

    index: int
    action: str
    path: tuple[tuple[float, float, float], ...]
    radii: tuple[tuple[float, float], ...]
    colours: tuple[tuple[float, str], ...]
    shapes: tuple[tuple[float, str], ...]
    shown: tuple[tuple[float, bool], ...] = ((0.0, True),)
    layer: int = 0
    direction: str | None = None
    speed: str | None = None
    partner: int | None = None

    @property
    def colour(self) -> str:
        """Colour at the event's start; questions name the object by it."""
        return self.colours[0][1]

    @property
    def shape(self) -> str:
        """Shape at the event's start; questions name the object by it."""
        return self.shapes[0][1]


@dataclass(frozen=True, kw_only=True)
class WorldEvent:
    """One scene, [start_s, end_s) of its video. `objects[0]` is the main object.

    phase: shift of the background's texture, each in [0, 1).
    """

    index: int
    start_s: float
    end_s: float
    background: str
    phase: tuple[float, float]
    objects: tuple[WorldObject, ...]

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True, kw_only=True)
class SceneChange:
    """How event `index` - 1 becomes event `index`: centred on `time_s`, `length_s` in all."""

    index: int
    time_s: float
    length_s: float
    kind: SceneChangeKind


@dataclass(frozen=True, kw_only=True)
class WorldVideo:
    """A video as ground truth: its events tile [0, duration_s)."""

    seed: int
    config: WorldConfig
    events: tuple[WorldEvent, ...]
    transitions: tuple[SceneChange, ...]
    camera_seed: int

    @property
    def duration_s(self) -> float:
        """Length in seconds, a whole number of frames at `fps`."""
        return self.events[-1].end_s

    @property
    def fps(self) -> int:
        """Frames per second of the mp4 file."""
        return self.config.fps

    @property
    def name(self) -> str:
        """File name without suffix; depends on seed and salt only."""
        return f"world-{self.config.salt}-{self.seed:08d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectState:
    """One object at one time. `visible` is False when it is off or wholly behind its partner."""

    event: int
    index: int
    colour: str
    shape: str
    x: float
    y: float
    radius: float
    visible: bool


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about one video, with its answer and the events that prove it.

    answer: the option's letter for multiple choice, else the word or number itself.
    answer_text: the answer in words, also for multiple choice.
    evidence: indices of all events that one must see to answer.
    named: indices of the events that the text names by something visible and unique.
    """

    type: str
    category: Category
    scope: Scope
    kind: QuestionKind
    text: str
    options: tuple[str, ...]
    answer: str
    answer_text: str
    evidence: tuple[int, ...]
    named: tuple[int, ...]
