"""Paper 1: the radius' grades subdivided by deep clustering, and scores for the new ones."""
