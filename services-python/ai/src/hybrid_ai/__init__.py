"""The AI service: embeddings, retrieval, answers and chat over gRPC.

Layers, each importing only those before it: config, errors, telemetry, identity ← models ← serving ← store ←
services ← server. `server` alone composes.
"""
