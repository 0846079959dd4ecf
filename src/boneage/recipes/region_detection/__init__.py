"""Paper 1's region detector: Faster R-CNN on ossification boxes and on boxes that key points give."""
