"""Memory while one long video is indexed: what an hour costs each process.

    python -m benchmarks.long_video [--minutes 60]

One row is one video, so a long video is the largest row there is: its frames, sampled once a second
at the default resolution (100,352 pixels), travel from the decoding actor to the encoding one
through Ray's object store. Samples, five times a second, the private memory (RssAnon: without what
is shared, such as the object store) of every process, and reports the highest of each kind, less
what the kind held before the video. `row_mib` is the size of the frames themselves.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.clips import hardware, render_clip
from benchmarks.processes import Sampled, descendants, private_mib
from jobs.common import ray_session
from marc_core.config import IndexConfig, VideoConfig, load_config
from marc_core.video.sampling import output_size
from pipelines.index import index_archive

STAGES = ("DecodeStage", "EncodeStage", "Writer", "marc_core.video.child")
SIZE = (640, 360)
MAX_PIXELS = VideoConfig().frame_max_pixels


class Peaks(Sampled):
    """Highest private memory of any process of each kind while a `with` block runs, in MiB."""

    interval_s = 0.2

    def __init__(self) -> None:
        self.mib: dict[str, float] = {}

    def look(self) -> None:
        """Raise the peaks to what is held now."""
        for pid, line in descendants().items():
            kind = next((s for s in STAGES if s in line), "others")
            self.mib[kind] = max(self.mib.get(kind, 0.0), private_mib(pid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, help="keep the video here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        long, short = (
            render_clip(folder / name / "video.mp4", seconds=s, fps=5, size=SIZE).parent
            for name, s in (("long", 60 * args.minutes), ("short", 10.0))
        )

        def index(archive: Path) -> tuple[dict[str, float], int]:
            config = load_config(
                IndexConfig,
                preset="tiny",
                overrides=[
                    "text.speech=off",
                    "text.writing=off",
                    f"archive=['{archive}']",
                    f"memory.uri='{scratch}/memory-{archive.name}'",
                    f"video.frame_max_pixels={MAX_PIXELS}",
                ],
            )
            with ray_session(), Peaks() as peaks:
                report = index_archive(config)
            assert report.indexed == 1, report
            return peaks.mib, report.events

        before, (after, events) = index(short)[0], index(long)
    width, height = output_size(*SIZE, MAX_PIXELS)
    result = {
        "hardware": hardware(),
        "video": f"{args.minutes:.0f} min, sampled once a second at {width}x{height}",
        "events": events,
        "row_mib": round(60 * args.minutes * height * width * 3 / 2**20),
        "highest_mib_above_a_short_video": {k: round(after[k] - before[k]) for k in after},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
