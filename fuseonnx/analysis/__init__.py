"""Read-only facts about a graph: shapes, purity, size."""
