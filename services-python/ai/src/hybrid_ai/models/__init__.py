"""The engines: each loads one model and runs it, and knows nothing of queues, callers or RPCs."""
