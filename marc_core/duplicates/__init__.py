"""Events and videos of a memory that are the same content: found, hidden, shown again."""
