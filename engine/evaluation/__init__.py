"""Scores, their files and the evaluation page."""
