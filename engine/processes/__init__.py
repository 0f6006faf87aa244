"""Processes: children and pools of them, signals that stop a run, and one writer of a folder."""
