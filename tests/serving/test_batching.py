"""Who comes while a batch is worked on shares the next; one wrong request costs nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from serving.batching import Batcher


class Doubling:
    """Doubles numbers, refuses negative ones, waits at `gate`, remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.gate.wait(10)
        self.batches.append(list(items))
        if any(item < 0 for item in items):
            raise ValueError(f"no negative numbers: {items}")
        return [2 * item for item in items]


async def submitted(
    batcher: Batcher[int, int], work: Doubling, items: Sequence[int]
) -> list[object]:
    tasks = []
    for item in items:
        tasks.append(asyncio.create_task(batcher.submit(item)))
        await asyncio.sleep(0.02)
    work.gate.set()
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def test_what_waits_goes_together() -> None:
    work = Doubling()
    batcher = Batcher(work, most=3)
    found = asyncio.run(submitted(batcher, work, [1, 2, 3, 4, 5]))
    batcher.close()
    assert found == [2, 4, 6, 8, 10]
    assert work.batches == [[1], [2, 3, 4], [5]]


def test_a_wrong_item_fails_alone() -> None:
    work = Doubling()
    batcher = Batcher(work, most=8)
    one, two, wrong, four = asyncio.run(submitted(batcher, work, [1, 2, -3, 4]))
    batcher.close()
    assert (one, two, four) == (2, 4, 8)
    with pytest.raises(ValueError, match=r"\[-3\]"):
        raise wrong  # type: ignore[misc]


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_who_has_left_is_left_out_wherever_it_waits(leaving: int) -> None:
    work = Doubling()
    batcher = Batcher(work, most=2)

    async def leave() -> list[int]:
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(batcher.submit(item)) for item in (2, 3, 4)]
        await asyncio.sleep(0.02)
        gone = waiting.pop(leaving)
        gone.cancel()
        await asyncio.wait({gone})
        work.gate.set()
        return await asyncio.gather(first, *waiting)

    stay = [item for item in (2, 3, 4) if item != leaving + 2]
    assert asyncio.run(leave()) == [2, *(2 * item for item in stay)]
    batcher.close()
    assert work.batches == [[1], stay]
