"""When a video was recorded: which of its sources says so, and times as people write them."""
