"""EXPORT: the trained actor as one self-describing ONNX file."""
