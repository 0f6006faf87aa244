"""Shards: how small clips can be, and how fast they are read."""
