"""A picture to the lines that are written in it, by the PP-OCRv6 models that `rapidocr` carries.

    picture --detect--> quadrilaterals --crop, turn, recognise--> Written --in_lines--> Written
            (shrunk to `side_px`)       (at the picture's own size)   (pieces of one line joined,
                                                                       as one reads)

Nothing is downloaded: the models' files are named by path, inside the installed package.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.errors import ModelLoadError
from marc_core.text.packages import folder_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}
"""Finds lines, tells those that stand on their head, reads them: one file for all its scripts."""
_TURN_FROM = 0.9
"""Sureness from which on a line is turned to stand on its feet (rapidocr's)."""
_SAME_ROW = 0.5
"""Middles closer than this share of a height are of one row (our choice)."""
_JOINED_GAP, _JOINED_HEIGHTS = 1.2, 1.6
"""Pieces of a row are one line where the gap is at most this many heights, and the higher one at
most so many times as high (our choice: a space between words is 0.3 heights)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """Text in a picture. confidence: 0 - 1. quad: (4, 2) corners in pixels, from where the text
    begins, clockwise."""

    text: str
    confidence: float
    quad: NDArray[np.float64]

    @property
    def height(self) -> float:
        """Height of the line, in pixels."""
        return float(np.linalg.norm(self.quad[3] - self.quad[0]))


def model_files() -> dict[str, Path]:
    """Return the path of each model file; imports nothing heavy.

    Raises ImportError without the package, ModelLoadError for a release that lacks the files.
    """
    folder = folder_of("rapidocr") / "models"
    paths = {part: folder / name for part, name in _MODELS.items()}
    if missing := [path.name for path in paths.values() if not path.is_file()]:
        raise ModelLoadError(
            f"rapidocr in {folder.parent} carries no {', '.join(missing)}. Install the release "
            "that does: pip install 'rapidocr==3.10.0'."
        )
    return paths


class OcrReader:
    """Reads pictures. Loads its models at once (0.3 s, 0.2 GB); one thread, so that as many can
    run as there are cores."""

    def __init__(self, *, side_px: int, min_confidence: float) -> None:
        """Shrink pictures to `side_px` to find lines; leave out those below `min_confidence`."""
        from rapidocr import RapidOCR

        threads = "EngineConfig.onnxruntime.{}_op_num_threads"
        self._min_confidence = min_confidence
        self._ocr: Any = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_preprocess_img": False,
                "Global.use_vertical_padding": False,
                "Cls.cls_thresh": _TURN_FROM,
                "Det.limit_type": "max",
                "Det.limit_side_len": side_px,
                **{f"{part}.model_path": str(path) for part, path in model_files().items()},
                **{threads.format(kind): 1 for kind in ("intra", "inter")},
            }
        )

    def read(self, picture_HWC: NDArray[np.uint8]) -> list[Written]:
        """Return the lines of an RGB picture, in reading order."""
        bgr_HWC = np.ascontiguousarray(picture_HWC[..., ::-1])
        boxes, turns, read, _ = self._ocr.run_ocr_steps(bgr_HWC, {})
        if boxes.boxes is None or read.txts is None:
            return []
        pieces = [
            Written(
                text=text.strip(),
                confidence=float(score),
                quad=_from_start(quad, on_head="180" in turn and sure > _TURN_FROM),
            )
            for text, score, quad, (turn, sure) in zip(
                read.txts, read.scores, boxes.boxes, turns.cls_res, strict=True
            )
            if score >= self._min_confidence and any(map(str.isalnum, text))
        ]
        return in_lines(pieces)


def _from_start(quad: NDArray[Any], *, on_head: bool) -> NDArray[np.float64]:
    """Return corners from where the text begins. quad: from the picture's upper left.

    Tall pieces are read turned counter-clockwise, so they begin at their upper right; on_head:
    whether the text was found to stand on its head then.
    """
    corners = np.asarray(quad, np.float64)
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1).astype(int)
    tall = max(sides[1], sides[3]) >= 1.5 * max(sides[0], sides[2])
    return np.roll(corners, -(int(tall) + 2 * on_head), axis=0)


def in_lines(pieces: Sequence[Written]) -> list[Written]:
    """Return pieces of text as lines in reading order: rows from above, each from the left.

    Rows run as the text does on the whole, so that a tilted sign is read by its own lines.
    """
    if not pieces:
        return []
    mean = np.sum([p.quad[1] - p.quad[0] for p in pieces], axis=0)
    along: NDArray[np.float64] = mean / (np.linalg.norm(mean) or 1.0)
    across = np.array([-along[1], along[0]])
    return [
        _joined(line)
        for row in _rows(pieces, across)
        for line in _lines(sorted(row, key=lambda p: float((p.quad @ along).min())), along)
    ]


def _rows(pieces: Sequence[Written], across: NDArray[np.float64]) -> Iterator[list[Written]]:
    row: list[Written] = []
    for piece in sorted(pieces, key=lambda p: float((p.quad @ across).mean())):
        if row:
            apart = float((piece.quad @ across).mean() - (row[-1].quad @ across).mean())
            if apart > _SAME_ROW * min(piece.height, row[-1].height):
                yield row
                row = []
        row.append(piece)
    yield row


def _lines(row: Sequence[Written], along: NDArray[np.float64]) -> Iterator[list[Written]]:
    line: list[Written] = []
    for piece in row:
        if line:
            low, high = sorted((piece.height, line[-1].height))
            gap = float((piece.quad @ along).min() - (line[-1].quad @ along).max())
            if gap > _JOINED_GAP * low or high > _JOINED_HEIGHTS * low:
                yield line
                line = []
        line.append(piece)
    yield line


def _joined(line: Sequence[Written]) -> Written:
    """Return one line from its pieces; its confidence is theirs by length."""
    lengths = [len(piece.text) for piece in line]
    first, last = line[0].quad, line[-1].quad
    return Written(
        text=" ".join(piece.text for piece in line),
        confidence=float(np.average([piece.confidence for piece in line], weights=lengths)),
        quad=np.stack([first[0], last[1], last[2], first[3]]),
    )
