"""From lists of videos to files: `python -m dataset.download`."""
