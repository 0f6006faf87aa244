"""From videos to frames and sounds: `python -m dataset.preprocess`."""
