"""The soak test: training under random kills, damaged media, and a long run that must not grow."""
