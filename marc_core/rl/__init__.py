"""The mathematics of C-GRPO and one step of it (paper, section 3.3): torch alone, no Ray.

    TrainSample (samples)  a question, what is known of its answer, what the student reads
        | rollouts: student's answers, full-token teacher's answers      (not here)
        v
    Verdict (judging)      texts -> scores; with a right answer, or with the teacher as the judge
        v
    Group (group)          answers as token ids with their worth; rewards R_i = r_i + 1[right] r_c
        v
    train_step (update)    groups -> advantages -> micro-batches -> gradients -> one weight update
        |-- rewards        retention eta, r_c, gate            (Q, G) tensors
        |-- advantage      A_i, and the exact expectation over options
        |-- loss           clipped surrogate, KL anchor, importance weights: (B, C) tensors
        |-- objective      all terms of a part of a batch, divided by counts of the whole
        |-- tally, guard   what is watched; when training stops by itself
    CGrpoConfig (config)   every setting, with its bounds and source

Who orchestrates draws answers with a StudentEngine, asks a teacher pool, refills groups that teach
nothing (`group.teaches`) and calls `train_step` on each worker with its share of the groups.
Text ends at `judging`; the loss sees numbers only.
"""
