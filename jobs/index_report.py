"""What `marc index` says at its end: every video is counted once, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from jobs.terminal import counted, say

if TYPE_CHECKING:
    from pipelines.report import IndexReport

_TEXTS_OF = {
    "speech": "what is said",
    "writing": "what is written",
    "caption": "a description of each event",
}
_SHOWN = 20
"""Videos that are named with what went wrong (as `marc prune` names them)."""


def print_report(report: IndexReport, memory: str) -> None:
    """Print the report of a run; only what is not zero, and what to do about it."""
    say(f"Memory {memory}", "bold")
    for line, style in report_lines(report, memory):
        say(line, style)


def report_lines(report: IndexReport, memory: str) -> Iterator[tuple[str, str]]:
    """Yield (line, style) of the report."""
    yield f"{report.found:>8,} {_videos(report.found)} found", ""
    if report.indexed:
        yield f"{report.indexed:>8,} indexed now: {_work(report)}", "green"
    if report.already:
        yield f"{report.already:>8,} already there", ""
    if report.failed:
        yield f"{report.failed:>8,} failed now", "red"
    if report.still_failing:
        line = (
            f"{report.still_failing:>8,} still failing since an earlier run, not tried again "
            "(retry_failed=true tries)"
        )
        yield line, "red"
    if report.quarantined:
        line = (
            f"{report.quarantined:>8,} quarantined: stalled or killed the decoder too often "
            "(retry_failed=true tries again)"
        )
        yield line, "red"
    if report.failures:
        yield f"         reasons: {_counts(report.failures)}", "red"
        yield f"         which and why: marc status -m {memory} --failures", ""
    if report.moved:
        yield f"{report.moved:>8,} moved, events kept without decoding", ""
    if report.copied:
        line = (
            f"{report.copied:>8,} of the indexed have the same bytes as another and were not "
            "decoded twice (marc dedup lists them)"
        )
        yield line, ""
    if report.texts_updated:
        line = (
            f"{report.texts_updated:>8,} with new or changed captions, camera, tags or clock, "
            "read without decoding"
        )
        yield line, ""
    for kind, count in report.texts_made.items():
        yield f"{count:>8,} searched for {_TEXTS_OF[kind]}", "green"
    if report.features_redone:
        yield f"{report.features_redone:>8,} with new features, without a new cut", "green"
    if report.features_kept:
        line = f"{report.features_kept:>8,} could not be read again and keep their old features"
        yield line, "red"
    yield from _embeddings(report)
    yield from _kept(report)
    yield from _left_out(report)
    if report.warnings:
        yield f"{report.warnings:>8,} with warnings: marc status -m {memory} --warnings", "yellow"


def _embeddings(report: IndexReport) -> Iterator[tuple[str, str]]:
    if not report.encoder:
        return
    if report.embeddings_redone:
        yield f"{report.embeddings_redone:>8,} with new embeddings, without a new cut", "green"
    if report.embeddings_missing:
        line = (
            f"{report.embeddings_missing:>8,} without: nothing is exchanged before all have some. "
            "Put their files back, or remove them (marc prune ARCHIVE, marc delete VIDEO); then "
            "the same command finishes"
        )
        yield line, "red"
    yield f"         encoder of the memory: {report.encoder}", ""


def _kept(report: IndexReport) -> Iterator[tuple[str, str]]:
    """Yield why videos keep what they have."""
    for uri, reason in sorted(report.kept.items())[:_SHOWN]:
        yield f"           {uri}: {reason}", "red"
    if len(report.kept) > _SHOWN:
        yield f"           and {len(report.kept) - _SHOWN:,} more (--json lists all)", "red"


def _left_out(report: IndexReport) -> Iterator[tuple[str, str]]:
    if report.ignored:
        shown = ", ".join(report.ignored_names)
        more = ", ..." if report.ignored > len(report.ignored_names) else ""
        line = (
            f"{report.ignored:>8,} left out: files that look like videos and fit no pattern "
            f"({shown}{more}): patterns=[...] takes them"
        )
        yield line, "yellow"
    if report.more_streams:
        line = (
            f"{report.more_streams:>8,} {_videos(report.more_streams)} with further video streams "
            "that were left out: video.streams=all takes each"
        )
        yield line, "yellow"


def _work(report: IndexReport) -> str:
    minutes = report.video_hours * 60
    length = f"{minutes:.1f} min" if minutes < 120 else f"{report.video_hours:.1f} h"
    stored = f", {counted(report.tokens_stored, 'visual token')}" if report.tokens_stored else ""
    return (
        f"{counted(report.events, 'event')}{stored} from {length} of video in "
        f"{report.wall_s:.1f} s ({report.hours_per_hour:.1f} x real time)"
    )


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {name}" for name, n in ordered)


def _videos(count: int) -> str:
    return "video" if count == 1 else "videos"
