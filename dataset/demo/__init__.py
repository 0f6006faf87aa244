"""Small, real videos made offline: drawn players of sampled instruments. `python -m dataset.demo`."""
