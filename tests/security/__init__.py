"""What must be refused: tried with true credentials, on real servers."""
