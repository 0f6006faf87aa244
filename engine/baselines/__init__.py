"""Separation without training: ceilings, floors and classic methods, scored as runs are."""
