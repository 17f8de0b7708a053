"""Results for people: HTML and Markdown."""
