"""Paper 3: grade thirteen bones (and two carpals), score them, and read an age from the score."""
