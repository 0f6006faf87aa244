"""Speed and memory, compared with the methods of older implementations; `python -m benchmark`."""
