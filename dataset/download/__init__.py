"""Download the videos of published lists: `python -m dataset.download`."""
