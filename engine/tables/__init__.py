"""The paper's comparisons as one command: trains, evaluates and writes the tables."""
