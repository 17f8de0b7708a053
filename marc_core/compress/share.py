"""How a budget of tokens is shared out over the events of a question.

    hits        events whose cosine to the question lies within a margin of the best one's
    companions  their neighbours in time, shown beside them
    quotas      tokens of each event: all hits of a question alike, what is left to companions

The rules are our choice, found on the synthetic world (docs/compression.md has the numbers): a
question names one event, or two, or none. One that names an event is answered from it and, where
it asks for what comes before or after, from its neighbours, which the question's words do not find.
One that names none ("how many scenes show a circle?") fits many events alike and needs all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAIN_SHARE = 7 / 9
"""Share of the budget that the only hit gets; its companions share the rest (our choice)."""
BESIDE_SHARE = 5 / 9
"""The same where the question asks for what lies beside the hit in time (our choice)."""
FEW_HITS = 2
"""Up to so many hits, the question names its events (our choice)."""


def hits_within(cosines_E: NDArray[np.floating], margin: float) -> NDArray[np.int64]:
    """Return the events within `margin` of the best cosine, best first; ties to the earlier one.

    margin: belongs to the encoder, whose cosines may span much or little.
    """
    order = np.argsort(-cosines_E, kind="stable")
    kept: NDArray[np.int64] = order[cosines_E[order] >= cosines_E.max() - margin]
    return kept


def spread_evenly(times_s: Sequence[float], most: int) -> list[int]:
    """Return at most `most` positions whose times lie evenly, first and last included."""
    order = np.argsort(np.asarray(times_s), kind="stable")
    if len(order) <= most:
        return [int(i) for i in order]
    picked = order[np.linspace(0, len(order) - 1, most).round().astype(int)]
    return [int(i) for i in picked]


def quotas(
    sizes_E: Sequence[int],
    hits: Sequence[int],
    budget_tokens: int,
    *,
    main_share: float = MAIN_SHARE,
) -> list[int]:
    """Return the tokens of each event, at most its size, `budget_tokens` in all where they suffice.

    sizes_E: tokens that each event can give, events in order of importance: first the hits (their
    positions are `hits`), then companions, nearer ones first. An event may get none where the
    budget is smaller than the number of events. main_share: of the budget, to the only hit.
    """
    num, hit = len(sizes_E), set(hits)
    others = [e for e in range(num) if e not in hit]
    wanted = np.zeros(num)
    if len(hit) == 1 and others:
        wanted[list(hit)] = np.ceil(main_share * budget_tokens)
        wanted[others] = (budget_tokens - wanted.sum()) / len(others)
    elif others:
        least = min(len(others), max(0, budget_tokens - len(hit)))
        wanted[list(hit)] = (budget_tokens - least) / len(hit)
        wanted[others] = least / len(others)
    else:
        wanted[:] = budget_tokens / num
    return _whole(wanted, np.asarray(sizes_E), budget_tokens)


def _whole(wanted_E: NDArray[np.floating], sizes_E: NDArray[np.integer], budget: int) -> list[int]:
    """Round to whole tokens within the sizes; what is left over goes round in order."""
    given_E = np.minimum(np.floor(wanted_E + 1e-9), sizes_E).astype(int)
    left = min(budget, int(sizes_E.sum())) - int(given_E.sum())
    while left > 0:
        short = wanted_E - given_E
        open_E = [e for e in range(len(sizes_E)) if given_E[e] < sizes_E[e]]
        first = max(open_E, key=lambda e: (short[e], -e))
        given_E[first] += 1
        left -= 1
    return [int(n) for n in given_E]
