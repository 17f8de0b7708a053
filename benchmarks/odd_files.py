"""What becomes of odd video files: a Markdown table.

python -m benchmarks.odd_files make FOLDER     renders the odd files
python -m benchmarks.odd_files table FOLDER... prints one row a file, decoded in the child process
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.odd_media import make_odd_files
from marc_core.config import IndexConfig
from marc_core.errors import MarcError, VideoError
from marc_core.types import DecodeSummary, VideoSource
from marc_core.video import IsolatedDecoder, admit_decord, list_videos, local_copy

HEAD = (
    "| file | codec | frames | errors | start s | duration s | size, rotation | decord | result |"
)
RULE = "|---|---|---|---|---|---|---|---|---|"


def row(source: VideoSource, decoder: IsolatedDecoder) -> str:
    """Return the table row of one file."""
    name = Path(source.uri).name
    try:
        with local_copy(source, {}) as path, decoder.open(path) as stream:
            sampled = sum(len(chunk.sampled_index) for chunk in stream)
            summary = stream.summary
            refusal = admit_decord(path, summary.info) or "admitted"
    except MarcError as error:
        kind = error.kind if isinstance(error, VideoError) else "source"
        reason = str(error).replace(source.uri, name)
        return f"| {name} | | | | | | | | **{kind}**: {reason} |"
    return _good_row(name, summary, refusal, sampled)


def _good_row(name: str, summary: DecodeSummary, refusal: str, sampled: int) -> str:
    info = summary.info
    turned = f", {info.rotation_deg}°" if info.rotation_deg else ""
    return (
        f"| {name} | {info.codec} | {summary.num_frames} | {summary.num_errors} | "
        f"{summary.start_s:.3f} | {summary.end_s - summary.start_s:.3f} | "
        f"{info.width} x {info.height}{turned} | {refusal} | {sampled} sampled |"
    )


def print_table(folders: list[str]) -> None:
    """Print the table of all videos in `folders`."""
    config = IndexConfig()
    print(HEAD, RULE, sep="\n")
    with IsolatedDecoder(config.video) as decoder:
        for source in list_videos(folders, config.patterns, {}):
            print(row(source, decoder))


def main() -> None:
    """Run the command line."""
    match sys.argv[1:]:
        case ["make", folder]:
            print(*make_odd_files(Path(folder)), sep="\n")
        case ["table", *folders] if folders:
            print_table(folders)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
