"""Token-level compression at question time: each event's hierarchy is cut at its share.

    hierarchies of a question's events --quotas--> tokens of each --cut--> CutTokens

No merge is left to do and nothing is averaged across events: every token keeps its own time and
place (our choice; `marc_core.compress.stages` is the paper's merge).

Letters: N tokens, D channels, E events, L deepstack layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from marc_core.compress.hierarchy import Hierarchy, cut
from marc_core.compress.share import MAIN_SHARE, quotas
from marc_core.errors import AnswerError


@dataclass(frozen=True, kw_only=True, slots=True)
class CutTokens:
    """Tokens of several events, events in the order in which they are shown, by time inside one.

    tokens_ND: (N, D). seconds_N: (N,) float64, centre of each token in time: on the clock of its
    source, or on a prompt's timeline (`marc_core.compress.timeline`). places_N2: (N, 2) float64
    row and column. events_N: (N,) which event each belongs to, ascending. num_source_tokens: of
    these events without any compression. deepstack_LND: where the model has deepstack features.
    frame_interval_s: seconds between the frames that were encoded.
    """

    tokens_ND: torch.Tensor
    seconds_N: NDArray[np.float64]
    places_N2: NDArray[np.float64]
    events_N: NDArray[np.int64]
    num_source_tokens: int
    deepstack_LND: torch.Tensor | None = None
    frame_interval_s: float = 1.0

    @property
    def num_tokens(self) -> int:
        """Visual tokens that the language model reads."""
        return len(self.tokens_ND)


def one_frame(events: Sequence[Hierarchy]) -> int:
    """Return the tokens of one frame of these events: of the largest, where they differ."""
    return max(event.grid_hw[0] * event.grid_hw[1] for event in events)


def cut_events(
    events: Sequence[Hierarchy],
    matched: Sequence[int],
    budget_tokens: int,
    *,
    main_share: float = MAIN_SHARE,
) -> CutTokens:
    """Return at most `budget_tokens` tokens of the events, shared out by `quotas`.

    matched: positions among `events` of those that the question names, best first; the others are
    companions. None: it names no event, and all share alike. budget_tokens: 0 means one frame's
    tokens. main_share: see `quotas`. Raises AnswerError without an event.
    """
    if not events:
        raise AnswerError("Compression needs at least one event. Got none: index a video first.")
    budget = budget_tokens or one_frame(events)
    order = [*matched, *(e for e in range(len(events)) if e not in set(matched))]
    sizes = [min(events[e].max_tokens, budget) for e in order]
    hits = range(len(matched) or len(events))
    given = dict(zip(order, quotas(sizes, hits, budget, main_share=main_share), strict=True))
    rows = {e: cut(events[e], given[e]) for e in range(len(events)) if given[e]}
    deepstack = [events[e].deepstack_LRD for e in rows]
    places = torch.cat([events[e].positions_R3[r] for e, r in rows.items()]).double().numpy()
    return CutTokens(
        tokens_ND=torch.cat([events[e].nodes_RD[r] for e, r in rows.items()]),
        seconds_N=places[:, 0],
        places_N2=places[:, 1:],
        events_N=np.repeat(list(rows), [len(r) for r in rows.values()]),
        num_source_tokens=sum(event.num_source_tokens for event in events),
        deepstack_LND=torch.cat(
            [d[:, r] for d, r in zip(deepstack, rows.values(), strict=True) if d is not None],
            dim=1,
        )
        if any(d is not None for d in deepstack)
        else None,
    )
