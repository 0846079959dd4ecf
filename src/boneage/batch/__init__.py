"""Read many images: one row an image, in worker processes, interruptible and resumable."""
