"""The baselines and what they are called on their pages.

Does not import torch, so that --help and mistakes are answered at once.
"""

MASKS = {
    "binary": "true binary masks",
    "ratio": "true ratio masks",
    "phase": "true phase-sensitive masks",
    "complex": "true complex masks",
}
TITLES = {
    "mixture": "the unprocessed mixture",
    **{f"oracle-{kind}": f"{title}, linear frequency" for kind, title in MASKS.items()},
    **{f"oracle-{kind}-log": f"{title}, log frequency" for kind, title in MASKS.items()},
    "nmf": "NMF, components clustered by MFCC, sounds in the order of best SDR",
    "nmf-supervised": "NMF with bases learned for the clips' categories",
    "hpss": "harmonic and percussive part, in the order of best SDR",
}
UNORDERED = ("nmf", "hpss")  # methods that do not know which of their sounds is which source
