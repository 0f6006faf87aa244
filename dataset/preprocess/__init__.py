"""Convert videos to frames and audio: `python -m dataset.preprocess`."""
