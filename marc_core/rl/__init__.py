"""The mathematics of C-GRPO (paper, section 3.3): torch alone, no Ray, no text in the loss.

answers --rewards--> r_i    retention eta --rewards--> r_c    R_i = r_i + correct_i * r_c
R --advantage--> A_i        log-probabilities + A --loss--> a number with gradients
"""
