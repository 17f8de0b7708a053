"""`marc dedup` on re-encoded copies: how many it finds, and what it takes for a copy that is none.

    python -m benchmarks.duplicates [--videos 6] [--folder FOLDER] [--out FILE]

Originals: videos of the synthetic world, clips of moving textures, and one fixed camera on several
days (one picture, through which somebody walks at another pace each day). Each original but the
cameras' comes again as every copy of `COPIES`; all are indexed on a local Ray with the tiny
encoder, and duplicates are looked for at each of `SIMILARITIES`.

found: share of copies that are listed as the original, or it as them, or both as one and the same
third: with at least half of their events. wrong: pairs that are listed and show different things.
cosines: 5th percentile over a copy's events with the original's event at the same time, and the
99.9th over events of different originals that are as long, the camera's left out. archive: pairs
that are listed in a memory of so many different videos of the world, which has few things and
places.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from benchmarks.clips import hardware, render_clip, render_fixed_camera
from benchmarks.world_memory import fill
from jobs.ray_session import ray_session
from marc_core.config import IndexConfig, MemoryConfig, load_config
from marc_core.duplicates.config import DedupConfig
from marc_core.duplicates.find import find_duplicates
from marc_core.memory import MemoryStore
from marc_core.memory.tables import scan
from marc_core.world import sample_video
from marc_core.world.mp4 import write_mp4
from pipelines.index import index_archive

SIMILARITIES = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
SECONDS, SIZE, CAMERA = 20.0, (320, 180), "camera"
SEED = 910_000
Picture = NDArray[np.uint8]
Pair = tuple[str, str]
"""An original, and which copy of it."""


def darker(picture_HWC: Picture) -> Picture:
    """Return the picture with less light and contrast."""
    return (picture_HWC * 0.8 + 10).astype(np.uint8)


def barred(picture_HWC: Picture) -> Picture:
    """Return the picture with black bars of a tenth of its height above and below."""
    shown = picture_HWC.copy()
    bar = len(shown) // 10
    shown[:bar] = shown[-bar:] = 0
    return shown


def with_logo(picture_HWC: Picture) -> Picture:
    """Return the picture with a white patch in its corner."""
    shown = picture_HWC.copy()
    shown[: len(shown) // 12, : shown.shape[1] // 8] = 240
    return shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """How a copy is made. size: share of the sides. drop: every so manieth frame is left out.
    begin: share of the frames that is left out in front."""

    codec: str = "libx264"
    crf: int = 23
    size: float = 1.0
    drop: int = 0
    begin: float = 0.0
    picture: Callable[[Picture], Picture] | None = None


COPIES: dict[str, Copy] = {
    "encoded again": Copy(),
    "low quality (crf 38)": Copy(crf=38),
    "half as wide": Copy(size=0.5, crf=30),
    "h265": Copy(codec="libx265", crf=30),
    "four fifths of the frames": Copy(drop=5),
    "without its first quarter": Copy(begin=0.25),
    "darker": Copy(picture=darker),
    "with a logo": Copy(picture=with_logo),
    "black bars": Copy(picture=barred),
}


def main() -> None:
    """Render, index, compare; print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=6, help="originals of each kind")
    parser.add_argument("--archive", type=int, default=400, help="videos of which none is a copy")
    parser.add_argument("--folder", type=Path, help="keep videos and memory here")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        render(folder / "videos", args.videos)
        memory = MemoryConfig(uri=str(folder / "memory"))
        index(folder / "videos", memory)
        report = {"hardware": hardware(), "originals": args.videos} | compared(memory)
        report["archive"] = archive(folder / "archive", args.archive)
    print(json.dumps(report, indent=1))
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


def render(folder: Path, count: int) -> None:
    """Write originals and their copies as <kind>-<number>/<name>.mp4."""
    for i in range(count):
        world, clip = folder / f"world-{i}", folder / f"clip-{i}"
        world.mkdir(parents=True, exist_ok=True)
        if not (world / "original.mp4").exists():
            write_mp4(sample_video(SEED + i), world / "original.mp4")
        render_clip(clip / "original.mp4", seconds=SECONDS, seed=i, size=SIZE, cut_every_s=4.0)
        for name, how in COPIES.items():
            for own in (world, clip):
                copied(own / "original.mp4", own / f"{name}.mp4", how)
        camera = folder / f"{CAMERA}-{i}" / "original.mp4"
        render_fixed_camera(camera, seconds=30.0, size=SIZE, pace=1 + i / 2)


def copied(path: Path, out: Path, how: Copy) -> None:
    """Write a copy of a video; nothing if `out` exists."""
    if out.exists():
        return
    part = out.with_suffix(".part.mp4")
    with av.open(str(path)) as given, av.open(str(part), "w") as container:
        stream = given.streams.video[0]
        options = {"crf": str(how.crf), "preset": "veryfast"}
        if how.codec == "libx265":
            options["x265-params"] = "log-level=error"
        target = container.add_stream(how.codec, rate=stream.average_rate, options=options)
        target.width, target.height = (
            round(n * how.size / 2) * 2 for n in (stream.width, stream.height)
        )
        target.pix_fmt, target.time_base = "yuv420p", stream.time_base
        first = stream.frames * how.begin
        start: int | None = None
        for number, frame in enumerate(given.decode(stream)):
            if number >= first and not (how.drop and number % how.drop == how.drop - 1):
                assert frame.pts is not None
                start = frame.pts if start is None else start
                container.mux(target.encode(changed(frame, how, frame.pts - start)))
        container.mux(target.encode())
    part.rename(out)


def changed(frame: VideoFrame, how: Copy, pts: int) -> VideoFrame:
    """Return a frame of a copy, with its time."""
    made = frame
    if how.picture is not None:
        made = VideoFrame.from_ndarray(how.picture(frame.to_ndarray(format="rgb24")))
        made.time_base = frame.time_base
    made.pts, made.pict_type = pts, 0
    return made


def index(videos: Path, memory: MemoryConfig) -> None:
    """Index all videos without texts; those that are there stay."""
    overrides = [
        f"archive=['{videos}']", f"memory.uri='{memory.uri}'", "memory.store_features=false",
        "text.speech=off", "text.writing=off",
    ]  # fmt: skip
    with ray_session("local"):
        report = index_archive(load_config(IndexConfig, preset="tiny", overrides=overrides))
    assert report.failed == 0, report


def compared(memory: MemoryConfig) -> dict[str, Any]:
    """Return what is found at each similarity, and the cosines behind it."""
    store = MemoryStore.open(memory)
    names = {row["video_id"]: _name(row["uri"]) for row in store.videos().to_pylist()}
    return {
        "copies": sum(name != "original" for _, name in names.values()),
        "similarities": {str(s): found_at(store, s) for s in SIMILARITIES},
        "cosines": cosines(store, names),
    }


def archive(memory: Path, count: int) -> dict[str, Any]:
    """Return how many pairs of different videos are listed at each similarity."""
    fill(memory, [sample_video(SEED + 1000 + i) for i in range(count)])
    config = MemoryConfig(uri=str(memory))
    store = MemoryStore.open(config)
    pairs = {
        str(s): len(find_duplicates(store, DedupConfig(memory=config, similarity=s)))
        for s in SIMILARITIES
    }
    return {"videos": count, "events": store.tables.events.count_rows(), "listed": pairs}


def _name(uri: str) -> Pair:
    """Return (original, copy) of a video's address."""
    return Path(uri).parent.name, Path(uri).stem


def found_at(store: MemoryStore, similarity: float) -> dict[str, Any]:
    """Return the share of copies that is found, by copy, and the pairs that are no copies."""
    events: dict[Pair, int] = {
        _name(row["uri"]): row["num_events"] for row in store.videos().to_pylist()
    }
    config = DedupConfig(memory=store.config, similarity=similarity)
    listed: dict[Pair, dict[Pair, int]] = defaultdict(lambda: defaultdict(int))
    wrong = []
    for one in find_duplicates(store, config):
        copy, kept = _name(one.uri), _name(one.of_uri)
        if copy[0] == kept[0]:
            listed[copy][kept] += len(one.events)
        else:
            wrong.append(f"{copy[0]}/{copy[1]} = {kept[0]}/{kept[1]}")
    links = {
        copy: max(of, key=lambda kept: of[kept])
        for copy, of in listed.items()
        if sum(of.values()) >= events[copy] / 2
    }
    shares: dict[str, list[bool]] = defaultdict(list)
    for original, name in events:
        if name != "original":
            same = _kept(links, (original, name)) == _kept(links, (original, "original"))
            shares[name].append(same)
    return {
        "found": round(float(np.mean([ok for own in shares.values() for ok in own])), 3),
        "wrong": len(wrong),
        "wrong_pairs": sorted(wrong)[:8],
        "by_copy": {name: round(float(np.mean(shares[name])), 3) for name in COPIES},
    }


def _kept(links: dict[Pair, Pair], video: Pair) -> Pair:
    """Return the video that is kept in place of this one, itself where it is shown."""
    while video in links:
        video = links[video]
    return video


def cosines(store: MemoryStore, names: dict[str, Pair]) -> dict[str, Any]:
    """Return how alike a copy's events are to their originals', and different events to others."""
    columns = ["video_id", "start_s", "end_s", "video_start_s", "embedding"]
    tracks: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    for row in scan(store.tables.events, columns).to_pylist():
        tracks[names[row["video_id"]]].append(row)
    same: dict[str, list[float]] = defaultdict(list)
    for (original, name), own in tracks.items():
        if name not in ("original", "without its first quarter"):
            same[name] += list(_at_one_time(own, tracks[original, "original"]))
    originals = [
        own
        for (original, name), own in tracks.items()
        if name == "original" and not original.startswith(CAMERA)
    ]
    strangers = list(_strangers(originals))
    return {
        "of_copies_5th_percentile": {
            name: round(float(np.percentile(same[name], 5)), 4) for name in COPIES if same[name]
        },
        "of_others_99.9th_percentile": round(float(np.percentile(strangers, 99.9)), 4),
    }


def _at_one_time(own: Sequence[Any], original: Sequence[Any]) -> Iterator[float]:
    for event in own:
        for other in original:
            if max(abs(event[n] - other[n]) for n in ("start_s", "end_s")) <= 0.5:
                yield _cosine(event, other)


def _strangers(tracks: Sequence[Sequence[Any]]) -> Iterator[float]:
    for i, own in enumerate(tracks):
        for event in own:
            for other in (row for track in tracks[i + 1 :] for row in track):
                lengths = [row["end_s"] - row["start_s"] for row in (event, other)]
                if abs(lengths[0] - lengths[1]) <= 0.5:
                    yield _cosine(event, other)


def _cosine(one: Any, other: Any) -> float:
    a, b = np.asarray(one["embedding"]), np.asarray(other["embedding"])
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


if __name__ == "__main__":
    main()
