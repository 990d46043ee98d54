"""What is made of texts by their embeddings: labels that fit, sentences that stand for the whole."""
