"""How MARC is judged: benchmarks from local files, prompts, parsing, scores, intervals."""
