"""What a memory holds, for other programs: rows, edit lists, captions."""
