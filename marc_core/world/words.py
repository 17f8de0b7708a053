"""The words and colours of the world: everything that can be seen and said."""

from __future__ import annotations

from typing import Final

RGB = tuple[int, int, int]

COLOURS: Final[dict[str, RGB]] = {
    "red": (225, 30, 35),
    "orange": (255, 140, 10),
    "yellow": (252, 236, 50),
    "green": (35, 205, 65),
    "cyan": (60, 235, 235),
    "blue": (40, 75, 250),
    "purple": (185, 50, 235),
    "white": (253, 253, 253),
}
"""Object colours, far apart from one another."""

SHAPES: Final = ("circle", "square", "triangle", "diamond", "plus", "ring")

BACKGROUNDS: Final[dict[str, tuple[RGB, RGB, str]]] = {
    "night": ((20, 22, 50), (112, 112, 140), "dots"),
    "sea": ((18, 72, 104), (32, 98, 132), "rows"),
    "forest": ((26, 66, 38), (16, 42, 26), "columns"),
    "sand": ((192, 166, 116), (172, 144, 94), "diagonal"),
    "snow": ((188, 200, 212), (162, 176, 194), "dots"),
    "brick": ((122, 58, 48), (88, 76, 70), "bricks"),
    "wood": ((112, 76, 42), (84, 54, 28), "rows"),
    "road": ((84, 84, 88), (142, 142, 134), "dashes"),
    "meadow": ((98, 130, 54), (80, 110, 42), "checks"),
    "sky": ((122, 158, 198), (160, 188, 212), "gradient"),
    "cave": ((48, 42, 42), (72, 62, 58), "diagonal"),
    "kitchen": ((148, 150, 142), (104, 104, 100), "grid"),
}
"""Backgrounds: two muted colours and the texture that joins them. The word names a place."""

DIRECTIONS: Final[dict[str, tuple[int, int]]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
"""Direction of movement as (x, y) in the picture; y grows downwards."""

SPEEDS: Final[dict[str, tuple[float, float]]] = {"slowly": (0.085, 0.11), "fast": (0.26, 0.34)}
"""Speed in frame sides per second."""

ACTIONS: Final = (
    "does nothing",
    "moves",
    "appears",
    "vanishes",
    "blinks",
    "grows",
    "shrinks",
    "changes colour",
    "changes shape",
    "hits",
    "passes",
    "hides",
)
"""What an object can do; the last three need a partner."""

ACTION_WEIGHTS: Final[dict[str, float]] = {a: 2.0 if a == "moves" else 1.0 for a in ACTIONS}
"""Relative frequency of the main object's action; direction and speed are asked of movers."""

PAIR_ACTIONS: Final = ("hits", "passes", "hides")
IN_PLACE_ACTIONS: Final = (
    "appears",
    "vanishes",
    "blinks",
    "grows",
    "shrinks",
    "changes colour",
    "changes shape",
)

ALSO_SEEN: Final[dict[str, tuple[str, ...]]] = {
    "moves": ("hits", "passes", "hides"),
    "appears": ("blinks",),
    "vanishes": ("blinks", "hides"),
}
"""Actions during which the first one is seen, too: who hides also moves. "Which object moves?" is
asked only where none of them occurs."""

SHORTEST_S: Final[dict[str, float]] = {"blinks": 3.4, "hits": 3.4, "passes": 3.4, "hides": 3.4}
"""Shortest scene in seconds in which frames one second apart show the action; others: 2 s."""
