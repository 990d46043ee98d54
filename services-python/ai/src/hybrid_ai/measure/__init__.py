"""Measurements of this service with its real models: `python -m hybrid_ai.measure NAME [--json]`."""
