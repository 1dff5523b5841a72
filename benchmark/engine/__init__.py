"""Training, evaluation and measurement of one segmenter."""
