"""A file's digest follows its content and not its place."""

import hashlib

from marc_core.digest import content_digest, full_digest

MIB = 1 << 20


def test_the_place_does_not_matter_and_the_content_does(tmp_path) -> None:
    for size in (0, 10, 4 * MIB, 9 * MIB):
        data = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
        (tmp_path / "a").write_bytes(data[:size])
        (tmp_path / "b").write_bytes(data[:size])
        (tmp_path / "longer").write_bytes(data[:size] + b"\0")
        first = content_digest(tmp_path / "a")
        assert first == content_digest(str(tmp_path / "b"))
        assert first != content_digest(tmp_path / "longer")
        assert first.startswith(f"{size}-")


def test_both_ends_of_a_large_file_are_sampled(tmp_path) -> None:
    data = bytearray(20 * MIB)
    (tmp_path / "a").write_bytes(data)
    digests = {content_digest(tmp_path / "a")}
    for place in (0, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[max(0, place - 300_000) : place + 300_000] = b"x" * 600_000
        (tmp_path / "a").write_bytes(changed[: len(data)])
        digests.add(content_digest(tmp_path / "a"))
    assert len(digests) == 4


def test_a_full_digest_is_that_of_all_bytes(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert full_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
