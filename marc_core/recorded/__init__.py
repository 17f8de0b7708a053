"""Wall clocks: zones, and times as people write them."""
