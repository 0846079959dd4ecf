"""Training: configuration, the Lightning loop and the export to ONNX."""
