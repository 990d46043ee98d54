"""Measures the service as a process of its own, loaded by clients in others, beside what the engine alone does.

    python -m hybrid_ai.measure embed|health|overload|memory|answer|search [--json FILE] [its options: --help]

Both run on the same cores in turns, so only the ratios mean something, and only where nothing else runs.
"""
