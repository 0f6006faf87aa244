"""Devices, memory, and processes that train together."""
