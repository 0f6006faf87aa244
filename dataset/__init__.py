"""Index files, sound and pictures: what the networks learn from."""
