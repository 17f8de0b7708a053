"""`marc status`: what a memory holds, in plain words; which videos failed or have warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jobs.common import clear_errors, needs_lines, print_json
from jobs.options import BucketSettings, ConfigOption, JsonOption, MemoryOption, open_memory
from jobs.terminal import counted, out, plain
from marc_core.config import MethodConfig, load_config

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

_KINDS = {
    "cuts": "where events begin and end, by the video and event settings",
    "embeddings": "how events are found, by the encoder",
    "features": "what the student reads, by its vision tower and stage 1",
}
"""Fingerprints of videos, and what each stands for."""


def status(
    settings: BucketSettings = None,
    memory: MemoryOption = None,
    config: ConfigOption = None,
    failures: Annotated[bool, typer.Option(help="List videos that are not indexed, why.")] = False,
    warnings: Annotated[bool, typer.Option(help="List videos that have warnings.")] = False,
    gaps: Annotated[bool, typer.Option(help="List what live sources lack, why.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a memory holds: videos by state, events, sizes, fingerprints, indexes.

    Example: marc status --memory runs/memory --failures --warnings --gaps
    """
    with clear_errors():
        store = open_memory(memory, config, settings)
        report = describe(store)
        report["models"] = _models(store)
        if failures:
            report["failed_videos"] = store.failures()
        if warnings:
            report["videos_with_warnings"] = warned(store)
        if gaps:
            report["gaps_of_sources"] = [gap._asdict() for gap in store.gaps()]
        if as_json:
            print_json(report)
            return
        out.print(plain(f"Memory {store.config.uri}", "bold"))
        for line in status_lines(report):
            out.print(plain(line), soft_wrap=True)
        if failures:
            rows = report["failed_videos"]
            out.print(
                failure_table(rows)
                if rows
                else "No failures among the videos that the memory knows."
            )
        if warnings:
            rows = report["videos_with_warnings"]
            out.print(warning_table(rows) if rows else "No video has warnings.")
        if gaps:
            rows = report["gaps_of_sources"]
            out.print(gap_table(rows) if rows else "No live source lacks anything.")


def describe(store: MemoryStore) -> dict[str, Any]:
    """Return the state of a memory as plain values, ready for JSON."""
    from marc_core.memory import hiding

    parts = store.parts().to_pylist()
    columns = [f"{kind}_fingerprint" for kind in _KINDS]
    indexed = store.videos(status="indexed", columns=columns)
    fingerprints = {
        kind: dict(Counter(v for v in indexed[f"{kind}_fingerprint"].to_pylist() if v))
        for kind in _KINDS
    }
    return store.status() | {
        "format_version": store.meta.format_version,
        "with_warnings": len(warned(store)),
        "gaps": gap_counts(store),
        "parts": dict(Counter(part["status"] for part in parts)),
        "part_gaps": part_gaps(parts),
        "hidden_events": hiding.count_hidden(store.tables),
        "fingerprints": fingerprints,
    }


def warned(store: MemoryStore) -> list[dict[str, Any]]:
    """Return (uri, warnings) of the videos that have some, or of which damaged packets were left
    out."""
    rows = store.videos(columns=["uri", "warnings", "num_decode_errors"]).to_pylist()
    found = []
    for row in rows:
        errors = row["num_decode_errors"] or 0
        damage = [f"{counted(errors, 'damaged packet')} could not be decoded and were left out"]
        warnings = [*(row["warnings"] or ()), *(damage if errors else ())]
        if warnings:
            found.append({"uri": row["uri"], "warnings": warnings})
    return found


def gap_counts(store: MemoryStore) -> dict[str, dict[str, float]]:
    """Return, by live source, how many gaps it has, how many go on, and the seconds of the rest.

    Clocks that were put back count as gaps without seconds.
    """
    found: dict[str, dict[str, float]] = {}
    for gap in store.gaps():
        counts = found.setdefault(gap.source, {"gaps": 0, "open": 0, "seconds": 0.0})
        counts["gaps"] += 1
        if gap.until is None:
            counts["open"] += 1
        else:
            counts["seconds"] += max(0.0, (gap.until - gap.since).total_seconds())
    return found


def part_gaps(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the parts of recordings that failed: where they lie, and why."""
    columns = ("video_id", "part", "from_s", "to_s", "error_class", "error_message", "attempts")
    bad = [part for part in parts if part["status"] in ("failed", "quarantined")]
    return [{name: part[name] for name in columns} for part in bad]


def _part_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what parts of long recordings are missing, and which are gaps."""
    counts = report["parts"]
    if not counts:
        return
    waiting = counts.get("planned", 0)
    rest = f", {waiting:,} to be done by the next `marc index`" if waiting else ""
    yield f"  {counted(counts.get('indexed', 0), 'part')} of long recordings{rest}"
    if report["part_gaps"]:
        kinds = Counter(gap["error_class"] for gap in report["part_gaps"])
        listed = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))
        seconds = sum(gap["to_s"] - gap["from_s"] for gap in report["part_gaps"])
        yield f"  gaps in them: {listed}, {_hours(seconds / 3600)} (--warnings lists them)"


def _models(store: MemoryStore) -> list[str]:
    """Return what the models of the last indexing run need of memory, a line each."""
    stored = store.last_config()
    return [] if stored is None else needs_lines(load_config(MethodConfig, stored=stored))


def status_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a memory holds, a fact a line."""
    states = [f"{report[s]:,} {s}" for s in ("indexed", "failed", "quarantined") if report[s]]
    yield f"  {counted(report['videos'], 'video')}: {', '.join(states) or 'none'}"
    if report["failures"]:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(report["failures"].items()))
        yield f"  not indexed because: {kinds} (--failures lists them)"
    if report["with_warnings"]:
        warned_of = counted(report["with_warnings"], "video")
        yield f"  with warnings: {warned_of} (--warnings lists them)"
    for source, counts in report["gaps"].items():
        goes_on = ", one goes on" if counts["open"] else ""
        gaps = counted(counts["gaps"], "gap")
        yield (
            f"  live source {source}: {gaps} of {counts['seconds']:,.1f} s"
            f"{goes_on} (--gaps lists them)"
        )
    yield f"  {_hours(report['hours'])} of video in {counted(report['events'], 'event')}"
    if report["hidden_events"]:
        yield (
            f"  {counted(report['hidden_events'], 'event')} hidden, because others show the same "
            "(`marc dedup --undo` shows them)"
        )
    yield from _part_lines(report)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report["text_kinds"].items())
    told = f" ({kinds})" if kinds else ""
    texts = counted(report["texts"], "text")
    yield f"  {texts}{told}, {_bytes(report['feature_bytes'])} of features"
    for kind, meaning in _KINDS.items():
        yield from _fingerprint(kind, meaning, report["fingerprints"][kind])
    yield f"  encoder {report['encoder_fingerprint']}, {report['embedding_dim']} dimensions"
    for encoder, count in report["staged"].items():
        yield (
            f"  waiting for those of all events: {counted(count, 'embedding')} of encoder "
            f"{encoder}: `marc index --only embeddings` goes on, `marc optimize --orphans` drops "
            "them"
        )
    for table, columns in report["indexes"].items():
        waiting = max((c["unindexed_rows"] for c in columns.values()), default=0)
        names = ", ".join(f"{name} ({c['type']})" for name, c in columns.items())
        rest = f"; searched without it: {counted(waiting, 'row')}" if waiting else ""
        yield f"  indexes of {table}: {names}{rest}"
    for line in report.get("models", ()):
        yield f"  {line}"
    yield f"  format {report['format_version']} of the memory's tables"


def _fingerprint(kind: str, meaning: str, counts: Mapping[str, int]) -> Iterator[str]:
    if not counts:
        return
    if len(counts) == 1:
        yield f"  {kind} {next(iter(counts))}: {meaning}"
        return
    listed = ", ".join(f"{name} of {counted(n, 'video')}" for name, n in counts.items())
    yield f"  {kind} {listed}: {meaning}. Settings differ: `marc index` makes them one"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def failure_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the videos that are not indexed and why."""
    table = Table("video", "state", "kind", "attempts", "reason")
    names = short_names(row["uri"] for row in rows)
    for row in rows:
        table.add_row(
            plain(names[row["uri"]]),
            plain(row["status"]),
            plain(row["error_class"]),
            str(row["attempts"]),
            plain(row["error_message"] or ""),
        )
    return table


def warning_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the videos that have warnings, each warning on a line."""
    table = Table("video", "warning")
    names = short_names(row["uri"] for row in rows)
    for row in rows:
        for i, warning in enumerate(row["warnings"]):
            table.add_row(plain("" if i else names[row["uri"]]), plain(warning))
    return table


def gap_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return what live sources lack and why."""
    table = Table("source", "from (UTC)", "to (UTC)", "seconds", "why")
    for row in rows:
        since, until = row["since"], row["until"]
        table.add_row(
            plain(row["source"]),
            f"{since:%F %T}",
            "goes on" if until is None else f"{until:%F %T}",
            "" if until is None else f"{(until - since).total_seconds():,.1f}",
            plain(row["reason"]),
        )
    return table


def short_names(uris: Iterable[str]) -> dict[str, str]:
    """Return each address's last component, or all of it where that occurs more than once."""
    listed = list(dict.fromkeys(uris))
    names = {uri: uri.rstrip("/").rpartition("/")[2] for uri in listed}
    counts = Counter(names.values())
    return {uri: name if counts[name] == 1 else uri for uri, name in names.items()}
