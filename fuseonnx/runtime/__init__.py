"""Everything that touches onnxruntime: sessions, test inputs, and whether two models agree."""
