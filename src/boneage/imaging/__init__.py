"""Files to radiographs, and images to better images; needs no torch."""
