"""The document index: SQLite on disk, vectors in memory, and retrieval that filters by who may read."""
