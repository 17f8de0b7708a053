"""From an answer to a score: parsing, metrics, intervals."""
