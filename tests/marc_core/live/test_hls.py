"""Following a live playlist over HTTP: nothing is lost that it still names."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from marc_core.live.config import SourceConfig, WatchConfig
from marc_core.live.hls import HlsReader
from marc_core.live.readers import SourceDown
from tests.live_hls import LiveHls, encode_piece
from tests.marc_core.live.test_recording import WALL_S, Recorded, pictures

HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"


def read(live: LiveHls, made: Recorded, reader: HlsReader | None = None, **config) -> HlsReader:
    """Read what the playlist has now, then stop."""
    stop = threading.Event()
    signs = 0

    def alive() -> None:
        nonlocal signs
        signs += 1
        if signs > 1 and live.pieces and reader._next == live.number:
            stop.set()

    reader = reader or HlsReader(SourceConfig(address=live.address), WatchConfig(**config))
    reader.read(made.recording, alive, stop)
    return reader


def test_pieces_are_read_once_in_order_and_breaks_cost_nothing(tmp_path: Path) -> None:
    made = Recorded(tmp_path, segment_s=0.5)
    with LiveHls(kept=4, seconds=0.5) as live:
        for number in range(6):
            live.add(encode_piece(number, seconds=0.5), WALL_S + number / 2)
        reader = read(live, made)
        live.is_down = True
        with pytest.raises(SourceDown, match="Error"):
            read(live, made, reader)
        live.is_down = False
        for number in range(6, 9):
            live.add(encode_piece(number, seconds=0.5), WALL_S + number / 2)
        read(live, made, reader)
        made.recording.close()
        assert len(made.files) == 6  # from the live edge: three pieces, then all
        assert all(pictures(f)[0] == 5 for f in made.files)
        assert made.gaps == []
        for number in range(9, 15):  # two more than the playlist keeps
            live.add(encode_piece(number, seconds=0.5), WALL_S + number / 2)
        read(live, made, reader, gap_s=0.5)
    (gap,) = made.gaps or [None]
    assert gap is None or gap[0] == "20:26:44"


def test_a_start_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    with LiveHls(kept=6, seconds=0.5) as live:
        for number in range(3):
            live.add(encode_piece(number, seconds=0.5), WALL_S + number / 2)
        made = Recorded(tmp_path, segment_s=0.5)
        read(live, made)
        made.recording.close()
        for number in range(3, 8):
            live.add(encode_piece(number, seconds=0.5), WALL_S + number / 2)
        again = Recorded(tmp_path, segment_s=0.5)
        read(live, again)  # the last piece needs no next one to be closed
    assert len(again.files) == 5
    assert again.gaps == []


def test_what_is_not_allowed_is_not_asked_for(tmp_path: Path) -> None:
    with LiveHls() as live:
        live.add(encode_piece(0), WALL_S)
        asked = live.asked
        with pytest.raises(SourceDown, match=r"watch\.allow does not admit 'http://127\.0\.0\.1'"):
            read(live, Recorded(tmp_path), allow=("rtsp://*",))
        assert live.asked == asked


def test_a_piece_that_is_damaged_costs_itself(tmp_path: Path) -> None:
    made = Recorded(tmp_path)
    with LiveHls() as live:
        live.add(encode_piece(0), WALL_S)
        live.add(b"no video at all" * 100, WALL_S + 1)
        live.add(encode_piece(3), WALL_S + 3)
        read(live, made)
        made.recording.close()
    assert [pictures(f)[0] for f in made.files] == [10, 10]
    assert [gap[:2] for gap in made.gaps] == [("20:26:41", "20:26:43")]
    assert "a piece cannot be read" in made.gaps[0][2]


@pytest.mark.parametrize(
    ("playlist", "said"),
    [
        ("<html>", "no playlist"),
        (f'{HEAD}#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:1,\npiece0.ts\n', "encrypted"),
        (f"{HEAD}#EXT-X-ENDLIST\n", "has ended"),
    ],
)
def test_what_cannot_be_read_is_said(playlist: str, said: str, tmp_path: Path) -> None:
    with LiveHls() as live:
        live.playlist = lambda: playlist
        with pytest.raises(SourceDown, match=said):
            read(live, Recorded(tmp_path))
