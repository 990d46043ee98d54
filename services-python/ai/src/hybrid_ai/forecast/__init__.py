"""Time series: exponential smoothing, verdicts on points as they come, and measuring both on the past."""
