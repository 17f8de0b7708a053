"""Lost work is taken once more, and only what was lost."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.retry import in_rounds


class _Cluster:
    """Loses what `loses` names: so many times each."""

    def __init__(self, **loses: int) -> None:
        self.loses, self.done, self.rounds = loses, list[str](), list[list[str]]()

    def run(self, todo: Sequence[str], turn: int) -> None:
        assert turn == len(self.rounds)
        self.rounds.append(list(todo))
        for name in todo:
            self.loses[name] = self.loses.get(name, 0) - 1
            if self.loses[name] < 0:
                self.done.append(name)

    def left(self, todo: Sequence[str]) -> list[str]:
        return [name for name in todo if name not in self.done]


def test_what_was_lost_once_is_done_in_the_second_round_and_nothing_else_twice():
    cluster = _Cluster(b=1)
    assert in_rounds(["a", "b", "c"], cluster.run, cluster.left) == []
    assert cluster.rounds == [["a", "b", "c"], ["b"]]
    assert cluster.done == ["a", "c", "b"]


def test_what_is_lost_twice_is_returned():
    cluster = _Cluster(a=2)
    assert in_rounds(["a", "b"], cluster.run, cluster.left) == ["a"]
    assert cluster.rounds == [["a", "b"], ["a"]]


def test_nothing_lost_means_one_round():
    cluster = _Cluster()
    assert in_rounds(["a"], cluster.run, cluster.left) == []
    assert cluster.rounds == [["a"]]
