"""The AI service: embeddings, retrieval, answers, chat, recommendations and forecasts over gRPC.

Layers, each importing only those before it: config, errors, telemetry, identity ← models ← serving ← store, recommend,
forecast ← services ← server. `server` alone composes.
"""

import os

# One thread for numpy's products: they are small, and its threads wait busily on cores that the models need. This must
# be set before numpy is loaded; who sets it otherwise is heard.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
