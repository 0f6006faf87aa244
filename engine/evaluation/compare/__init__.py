"""Evaluations of several runs beside each other, on the mixtures that all of them have."""
