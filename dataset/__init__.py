"""Index files, audio and frames: what the networks learn from."""
