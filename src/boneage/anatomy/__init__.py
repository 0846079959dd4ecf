"""Where the hand and its key points are."""
