"""A small synthetic data set made offline: drawn players, sampled instruments. `python -m dataset.demo`."""
