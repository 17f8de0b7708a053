"""How questions name things: only by what is visible and fits one event of the video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from marc_core.world.phrases import noun, place
from marc_core.world.streams import Stream
from marc_core.world.types import WorldEvent, WorldObject, WorldVideo


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Names that are unique among the events of `video` and `rivals` (events of other videos)."""

    video: WorldVideo
    rivals: Sequence[WorldEvent] = ()

    def fits_one(
        self, *, background: str | None = None, colour: str | None = None, shape: str | None = None
    ) -> bool:
        """Say whether exactly one event has that background and an object of that look."""
        return self._counts[background, colour, shape] == 1

    @cached_property
    def _counts(self) -> Counter[tuple[str | None, str | None, str | None]]:
        """Return how many events fit (background, colour, shape), None standing for any."""
        counts: Counter[tuple[str | None, str | None, str | None]] = Counter()
        for event in (*self.video.events, *self.rivals):
            looks: set[tuple[str | None, str | None]] = {(None, None)}
            for thing in event.objects:
                colours = [None, *(c for _, c in thing.colours)]
                shapes = [None, *(s for _, s in thing.shapes)]
                looks.update((c, s) for c in colours for s in shapes)
            counts.update((b, c, s) for b in (None, event.background) for c, s in looks)
        return counts

    def thing(
        self, stream: Stream, event: WorldEvent, thing: WorldObject, *, hide: str = ""
    ) -> str | None:
        """Return a name of an object, or None if none is unique.

        hide: "colour", "shape" or "background", when the name must not give it away.
        """
        colour = None if hide == "colour" else thing.colour
        shape = None if hide == "shape" else thing.shape
        words = f"the {colour} object" if shape is None else f"the {thing.shape}"
        if colour and shape:
            words = f"the {noun(thing)}"
        names = []
        if self.fits_one(colour=colour, shape=shape):
            names.append(words)
        where = event.background
        if hide != "background" and self.fits_one(background=where, colour=colour, shape=shape):
            names.append(f"{words} in {place(event)}")
        return stream.choice(names) if names else None

    def scene(self, stream: Stream, event: WorldEvent, *, by_place: bool = False) -> str | None:
        """Return a name of an event: its background, an object of it or both; None if not unique.

        by_place: by its background only.
        """
        if self.fits_one(background=event.background) and (by_place or stream.chance(0.6)):
            return place(event)
        if by_place:
            return None
        for thing in stream.shuffled(event.objects):
            colour, shape = thing.colour, thing.shape
            if self.fits_one(colour=colour, shape=shape):
                return f"the scene with the {noun(thing)}"
            if self.fits_one(background=event.background, colour=colour, shape=shape):
                return f"{place(event)} with the {noun(thing)}"
        return place(event) if self.fits_one(background=event.background) else None


def shows(event: WorldEvent, *, colour: str | None = None, shape: str | None = None) -> bool:
    """Say whether an object of the event ever has that colour and that shape."""
    return any(
        (colour is None or any(c == colour for _, c in o.colours))
        and (shape is None or any(s == shape for _, s in o.shapes))
        for o in event.objects
    )
