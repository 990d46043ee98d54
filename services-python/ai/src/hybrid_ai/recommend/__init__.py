"""Recommendations: the catalogue of films, what people did with them, and the ranking that follows from both."""
