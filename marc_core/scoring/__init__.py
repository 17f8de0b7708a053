"""From a model's text to a score in [0, 1]: the same rules for evaluation and for rewards.

text --parse--> letter, number, words --answers--> score by problem type
"""
