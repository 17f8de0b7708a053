"""How well writing in pictures is read, by size, tilt, contrast and font, and what it costs.

    python -m benchmarks.writing [--pictures N] [--cases WORD]

Lines of known words on random landscapes of 1280 x 720, read as the index does (`OcrReader`), with
pictures shrunk to several sides for finding lines. Accuracy: 1 - edits / characters, over all lines
of a picture in reading order, case and spaces counted. Costs are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rapidfuzz.distance import Levenshtein

from benchmarks.clips import hardware
from marc_core.config import TextConfig
from marc_core.text.ocr import OcrReader

SIZE = (1280, 720)
SIDES = (320, 480, 736, 960)
LINES = (
    "Platform 7 to Oslo", "departs 14:35", "Mind the gap", "Customs office 12", "No entry",
    "Open until six", "Botanical Garden", "Speed limit 80", "Exit to Market Street",
    "Flight LH 2041", "Quality since 1932", "Wet paint, do not touch",
)  # fmt: skip
FONTS = {
    "sans (Pillow's own)": None,
    "DejaVu Sans Bold": "DejaVuSans-Bold.ttf",
    "DejaVu Serif": "DejaVuSerif.ttf",
    "DejaVu Sans Mono": "DejaVuSansMono.ttf",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """How three lines are drawn. contrast: grey levels between ink and the ground's mean."""

    name: str
    height_px: int = 40
    turned_deg: float = 0.0
    contrast: int = 120
    font: str | None = None
    jpeg: int = 0


CASES = (
    *(Case(name=f"{h} px high", height_px=h) for h in (14, 18, 24, 32, 48, 96)),
    *(Case(name=f"turned {d} degrees", turned_deg=d) for d in (5, 15, 30, 45, 90, 180)),
    *(Case(name=f"contrast {c} of 255", contrast=c) for c in (15, 30, 60)),
    *(Case(name=name, font=font) for name, font in FONTS.items()),
    Case(name="24 px, JPEG of quality 20", height_px=24, jpeg=20),
)


def landscape(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (H, W) smooth noise around 90 of 255, deviation 18."""
    mixed = np.zeros(SIZE[::-1])
    for octave in range(5):
        small = rng.uniform(-1, 1, (3 * 2**octave, 5 * 2**octave)).astype(np.float32)
        mixed += np.asarray(Image.fromarray(small).resize(SIZE)) / 2**octave
    grounded: NDArray[np.float64] = 90 + 18 * (mixed - mixed.mean()) / mixed.std()
    return grounded


def draw(case: Case, lines: list[str], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (H, W, 3): the lines below each other, turned about the picture's middle."""
    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    font = ImageFont.load_default(case.height_px)
    if case.font is not None:
        font = ImageFont.truetype(str(folder / case.font), case.height_px)
    ink = Image.new("L", SIZE)
    pen = ImageDraw.Draw(ink)
    for i, line in enumerate(lines):
        left = (SIZE[0] - pen.textlength(line, font=font)) / 2
        top = SIZE[1] / 2 + (i - len(lines) / 2) * 1.7 * case.height_px
        pen.text((left, top), line, font=font, fill=255)
    share = np.asarray(ink.rotate(-case.turned_deg, Image.Resampling.BICUBIC)) / 255
    ground = landscape(rng)
    grey = np.clip(ground + share * (90 + case.contrast - ground), 0, 255)
    picture = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return np.asarray(_through_jpeg(picture, case.jpeg) if case.jpeg else picture)


def _through_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    import io

    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def accuracy(reader: OcrReader, picture: NDArray[np.uint8], lines: list[str]) -> float:
    """Return 1 - edits / characters, 0 at the least."""
    wanted = " ".join(lines)
    read = " ".join(line.text for line in reader.read(picture))
    return max(0.0, 1 - Levenshtein.distance(wanted, read) / len(wanted))


def pictures(case: Case, count: int) -> Iterator[tuple[NDArray[np.uint8], list[str]]]:
    for seed in range(count):
        rng = np.random.default_rng(seed)
        lines = rng.choice(LINES, 3, replace=False).tolist()
        yield draw(case, lines, rng), lines


def cost(reader: OcrReader, num_lines: int, count: int) -> float:
    """Return median CPU milliseconds of a picture with so many lines."""
    times = []
    for seed in range(count + 1):
        rng = np.random.default_rng(seed)
        lines = [LINES[i % len(LINES)] for i in range(num_lines)]
        picture = draw(Case(name="", height_px=32), lines, rng)
        started = time.process_time()
        reader.read(picture)
        times.append(1000 * (time.process_time() - started))
    return round(median(times[1:]), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=4, help="Pictures of each kind.")
    parser.add_argument("--cases", default="", help="Only cases whose name holds this.")
    given = parser.parse_args()
    count = given.pictures
    confidence = TextConfig().writing_min_confidence
    readers = {s: OcrReader(side_px=s, min_confidence=confidence) for s in SIDES}
    rows = []
    for case in (case for case in CASES if given.cases in case.name):
        shown = list(pictures(case, count))
        read = {
            str(side): round(mean(accuracy(reader, *one) for one in shown), 3)
            for side, reader in readers.items()
        }
        rows.append({"case": case.name, **read})
        sys.stderr.write(f"{rows[-1]}\n")
    costs = {
        str(side): {f"{n} lines": cost(reader, n, 5) for n in (0, 1, 3, 8)}
        for side, reader in readers.items()
    }
    bare = OcrReader(side_px=480, min_confidence=0.0)
    empty = [landscape(np.random.default_rng(seed)) for seed in range(10 * count)]
    false = [
        line.confidence
        for ground in empty
        for line in bare.read(np.clip(ground, 0, 255).astype(np.uint8)[..., None].repeat(3, 2))
    ]
    report = {
        "hardware": hardware(),
        "picture": SIZE,
        "pictures_a_case": count,
        "accuracy_by_side_px": rows,
        "cpu_ms_a_picture_by_side_px": costs,
        "empty_pictures": len(empty),
        "false_lines_by_confidence": sorted((round(c, 2) for c in false), reverse=True),
    }
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
