"""Speed and memory, measured beside the way older implementations work; `python -m benchmark`."""
