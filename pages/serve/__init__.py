"""A page to drop videos on: a small server for this machine alone, which separates them one after another."""
