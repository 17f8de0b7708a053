"""How far guessing gets: no picture at all, or the true state of a single frame.

    python -m marc_core.world.baselines --videos 3000

Three guessers, each a conditional logit over a question's options, trained on one half of the
seeds and scored on the other, per question type:
- question-only: words of the question and of the options, and the options' positions;
- middle frame: the same, plus the true state of the frame in the middle of the VIDEO;
- evidence frame: the same, plus the true state of the frame in the middle of the EVENT that is
  named (perfect retrieval of a single frame; no demand is made on it, it shows what motion adds).
Learned guessers find whatever leaks; rules would only find what we thought of. Chance is the
mean of one over the number of options.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from marc_core.world.config import WorldConfig
from marc_core.world.phrases import noun, words_of
from marc_core.world.questions import QUESTION_TYPES, make_questions
from marc_core.world.scenes import sample_video
from marc_core.world.states import event_at, event_states
from marc_core.world.types import ObjectState, Question, WorldEvent, WorldVideo

EPOCHS = 6
RATE = 0.15
L2 = 0.02
Features = list[str]
Featurizer = Callable[[WorldVideo, Question, int], Features]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A multiple-choice question, as features per option, with the right option's index."""

    options: tuple[Features, ...]
    right: int


def question_only(video: WorldVideo, question: Question, option: int) -> Features:
    """Return what an option looks like without any picture."""
    text = question.options[option]
    words = sorted(set(words_of(question.text)))
    shared = len(set(words) & set(words_of(text)))
    others = [o for o in question.options if o != text]
    rank = sorted(question.options).index(text)
    base = [f"o={text}", f"i={option}", f"r={rank}", f"s={shared}", f"w={words_of(text)[0]}"]
    return base + [f"o={text}|q={w}" for w in words] + [f"o={text}|x={o}" for o in others]


def middle_frame(video: WorldVideo, question: Question, option: int) -> Features:
    """Return the same, knowing the frame in the middle of the video."""
    time_s = video.duration_s / 2
    event = event_at(video, time_s)
    return _one_frame(video, question, option, event, time_s - event.start_s)


def evidence_frame(video: WorldVideo, question: Question, option: int) -> Features:
    """Return the same, knowing the frame in the middle of the (first) event named."""
    event = video.events[(*question.named, *question.evidence)[0]]
    return _one_frame(video, question, option, event, event.duration_s / 2)


def _one_frame(
    video: WorldVideo, question: Question, option: int, event: WorldEvent, local_s: float
) -> Features:
    text = question.options[option]
    states = [s for s in event_states(event, local_s) if s.visible]
    named = event.index in question.named
    asked = [o.index for o in event.objects if noun(o) in question.text]
    asked += [o.index for o in event.objects if f"the {o.shape} in" in question.text]
    asked += [o.index for o in event.objects if f"{o.colour} object" in question.text]
    seen = _seen(text, event, states)
    found = [f"seen={seen}|named={named}", f"named={named}|o={text}"]
    if named:
        found += [f"n={len(states)}|o={text}"]
        found += [f"{token}|o={text}" for token in _look(event, states, asked)]
        found += [f"{token}|seen={seen}" for token in _look(event, states, asked)]
    return question_only(video, question, option) + found


def _seen(text: str, event: WorldEvent, states: Sequence[ObjectState]) -> str:
    """Say which parts of an option's text the frame shows: place, object, colour, shape."""
    words = set(words_of(text))
    parts = {
        "place": event.background in words,
        "object": any(f"{s.colour} {s.shape}" in text for s in states),
        "colour": any(s.colour in words for s in states),
        "shape": any(s.shape in words for s in states),
    }
    return "+".join(name for name, found in parts.items() if found)


def _look(event: WorldEvent, states: Sequence[ObjectState], asked: Sequence[int]) -> Features:
    """Return coarse words for the state of the object asked about."""
    mine = [s for s in states if s.index in asked]
    if not mine:
        return ["gone"]
    me = mine[0]
    start = event.objects[me.index]
    others = [s for s in states if s.index != me.index]
    apart = min((max(abs(me.x - s.x), abs(me.y - s.y)) for s in others), default=1.0)
    return [
        "there",
        f"x={int(me.x * 5)}",
        f"y={int(me.y * 5)}",
        f"radius={round(me.radius * 100)}",
        f"apart={int(apart * 8)}",
        f"largest={max((round(s.radius * 100) for s in others), default=0)}",
        f"changed={me.colour != start.colour}{me.shape != start.shape}",
    ]


def train(asked: Sequence[Asked]) -> dict[str, float]:
    """Return weights of a conditional logit (softmax over options), by Adagrad."""
    weights: dict[str, float] = {}
    squares: dict[str, float] = {}
    for _ in range(EPOCHS):
        for item in asked:
            chances = _softmax([sum(weights.get(f, 0.0) for f in fs) for fs in item.options])
            for i, features in enumerate(item.options):
                error = chances[i] - (i == item.right)
                for f in features:
                    gradient = error + L2 * weights.get(f, 0.0)
                    squares[f] = squares.get(f, 0.0) + gradient * gradient
                    step = RATE * gradient / (math.sqrt(squares[f]) + 1e-9)
                    weights[f] = weights.get(f, 0.0) - step
    return weights


def accuracy(weights: dict[str, float], asked: Sequence[Asked]) -> float:
    """Return the share of questions whose right option scores highest (the first among equals)."""
    hits = 0
    for item in asked:
        scores = [sum(weights.get(f, 0.0) for f in features) for features in item.options]
        hits += scores.index(max(scores)) == item.right
    return hits / len(asked)


def _softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    powers = [math.exp(s - top) for s in scores]
    total = sum(powers)
    return [p / total for p in powers]


def measure(
    num_videos: int, config: WorldConfig, *, per_type: int = 2, types: Sequence[str] = ()
) -> list[dict[str, object]]:
    """Return one row a question type: chance and the guessers' accuracy on held-out seeds."""
    pairs: dict[str, list[list[tuple[WorldVideo, Question]]]] = {}
    for seed in range(num_videos):
        video = sample_video(seed, config)
        for q in make_questions(video, seed=0, per_type=per_type, open_share=0.0, types=types):
            pairs.setdefault(q.type, [[], []])[seed % 2].append((video, q))
    rows = []
    for kind in QUESTION_TYPES:
        if kind.name not in pairs or not all(pairs[kind.name]):
            continue
        fit, held = pairs[kind.name]
        row: dict[str, object] = {
            "type": kind.name,
            "category": kind.category,
            "questions": len(held),
            "chance": sum(1 / len(q.options) for _, q in held) / len(held),
            "most_frequent": _most_frequent(fit, held),
        }
        for featurize in (question_only, middle_frame, evidence_frame):
            weights = train([_asked(featurize, v, q) for v, q in fit])
            row[featurize.__name__] = accuracy(weights, [_asked(featurize, v, q) for v, q in held])
        rows.append(row)
    return rows


def _most_frequent(
    fit: Sequence[tuple[WorldVideo, Question]], held: Sequence[tuple[WorldVideo, Question]]
) -> float:
    """Return the accuracy of taking the option that was the answer most often in training."""
    counts: dict[str, int] = {}
    for _, q in fit:
        counts[q.answer_text] = counts.get(q.answer_text, 0) + 1
    best = (max(q.options, key=lambda o: counts.get(o, 0)) == q.answer_text for _, q in held)
    return sum(best) / len(held)


def _asked(featurize: Featurizer, video: WorldVideo, question: Question) -> Asked:
    options = tuple(featurize(video, question, i) for i in range(len(question.options)))
    return Asked(options=options, right=question.options.index(question.answer_text))


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description="Guessers' accuracy on the world's questions.")
    parser.add_argument("--videos", type=int, default=3000)
    parser.add_argument("--min-duration-s", type=float, default=0.0, help="0: 3 - 6 scenes.")
    given = parser.parse_args()
    config = WorldConfig(min_duration_s=given.min_duration_s)
    rows = measure(given.videos, config)
    print(json.dumps({"videos": given.videos, "config": asdict(config), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
