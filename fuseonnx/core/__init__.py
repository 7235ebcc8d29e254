"""The rewriting engine: it knows graphs, and no operator."""
