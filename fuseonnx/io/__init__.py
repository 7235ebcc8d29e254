"""Zero-copy loading and streamed, atomic saving of ONNX files."""
