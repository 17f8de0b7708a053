"""MARC's method as plain functions: video to events to memory to compressed tokens to an answer.

Nothing in this package imports ray; the distributed wiring lives in `pipelines`, `jobs` and
`serving`.
"""

__version__ = "0.1.0"
