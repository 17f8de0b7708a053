"""Training sets: what a student reads of each question, computed once and stored as rows."""
