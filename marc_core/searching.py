"""Searches of an archive by text, by an example picture, or by an event ("more like this")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from marc_core.embed.margin import calibrated_margin
from marc_core.errors import AnswerError
from marc_core.text.matching import marked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.archive import Archive, SearchHit, TextLine
    from marc_core.embed import DualEncoder
    from marc_core.question import SearchQuery


CALIBRATION_EVENTS = 512
"""Events whose scores with unrelated texts give the margin (our choice)."""


class Searcher:
    """An archive with the encoder that its events were embedded with."""

    def __init__(self, archive: Archive, encoder: DualEncoder) -> None:
        self.archive, self.encoder = archive, encoder

    def search(self, queries: Sequence[SearchQuery]) -> list[list[SearchHit]]:
        """Return the page of events that each query asks for, best first.

        "More like this" leaves out the event that was named. Raises AnswerError for a query that
        is empty, names an unknown event, or whose image cannot be read.
        """
        vectors_QD = np.stack([self._vector(query) for query in queries])
        widened = [_with_room_for_itself(query) for query in queries]
        found = self.archive.search(widened, vectors_QD, honest=True)
        pages = [_without_itself(query, hits) for query, hits in zip(queries, found, strict=True)]
        return self._with_matches(queries, pages)

    def _with_matches(
        self, queries: Sequence[SearchQuery], pages: Sequence[Sequence[SearchHit]]
    ) -> list[list[SearchHit]]:
        """Return the pages with the lines of each event that hold words of its query."""
        searched = [hits if query.text else [] for query, hits in zip(queries, pages, strict=True)]
        ids = [hit.event_id for hits in searched for hit in hits if hit.text]
        lines = self.archive.texts(list(dict.fromkeys(ids))) if ids else {}
        return [
            [replace(hit, matches=_matches(query, lines.get(hit.event_id, ()))) for hit in hits]
            for query, hits in zip(queries, pages, strict=True)
        ]

    @cached_property
    def hit_margin(self) -> float:
        """Cosines that close to the best one's count as hits: what the encoder's directory says,
        else measured on this archive's events (`calibrated_margin`)."""
        if self.encoder.hit_margin is not None:
            return self.encoder.hit_margin
        return calibrated_margin(self.encoder, self.archive.sample_vectors(CALIBRATION_EVENTS))

    def _vector(self, query: SearchQuery) -> NDArray[np.float32]:
        given = [x for x in (query.text, query.image, query.event_id) if x is not None]
        if len(given) != 1:
            raise AnswerError(
                f"A search takes exactly one of text, image and event_id. Got {len(given)}."
            )
        if query.event_id is not None:
            return self.archive.vector_of(query.event_id)
        if query.image is not None:
            return np.asarray(self.encoder.encode_images(picture_of(query.image))[0])
        if not (query.text or "").strip():
            raise AnswerError("A search must not be empty. Got only white space.")
        return np.asarray(self.encoder.encode_texts([query.text or ""])[0])


def _matches(query: SearchQuery, lines: Iterable[TextLine]) -> tuple[TextLine, ...]:
    kinds = query.filter.kinds
    own = [line for line in lines if not kinds or line.kind in kinds]
    return tuple(marked(own, query.text)) if query.text else ()


def _with_room_for_itself(query: SearchQuery) -> SearchQuery:
    if query.event_id is None:
        return query
    return replace(query, limit=query.offset + query.limit + 1, offset=0)


def _without_itself(query: SearchQuery, hits: list[SearchHit]) -> list[SearchHit]:
    if query.event_id is None:
        return hits
    others = [hit for hit in hits if hit.event_id != query.event_id]
    return others[query.offset : query.offset + query.limit]


def picture_of(data: bytes, name: str = "The image to search by") -> NDArray[np.uint8]:
    """Return an image file's bytes as (1, H, W, 3) uint8 RGB, upright.

    Raises AnswerError, which calls the image by `name`.
    """
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            picture = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Image.DecompressionBombError as error:
        raise AnswerError(f"{name} has too many pixels. Make it smaller.") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        what = "has no bytes" if not data else f"has {len(data):,} bytes that are no whole picture"
        raise AnswerError(f"{name} must be a JPEG, PNG or WebP file, but {what}.") from error
    return picture[None]
