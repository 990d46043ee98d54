"""One mechanism for all model work: a bounded, fair queue, batches formed when a worker is free, and cancellation."""
