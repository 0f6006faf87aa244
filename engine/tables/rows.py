"""What the tables compare: runs of main.py that differ from the preset `reduced` in one thing each."""

from typing import NamedTuple

SIZE = "--num_epoch 4 --eval_epoch 4"  # of the other presets: as many mixtures as `reduced`
SMALLER_MODERN = (
    "--preset modern --imgSize 160 --num_views 8 --num_frames 1 --stride_frames 1 --ngf 32 --num_channels 16 "
    "--audLen 32767 --batch_size_per_gpu 8 --lr_sound 1.5e-3 --lr_synthesizer 1.5e-3 --num_val -1 "
    f"--dup_trainset 0 {SIZE}"
)
RATIO = "--binary_mask 0 --loss l1"


class Variant(NamedTuple):
    """A run: what the tables call it, and its flags."""

    text: str
    flags: str


BASE = "binary-log"
VARIANTS = {  # by the run's name; the first is what the others are compared with
    BASE: Variant("binary masks, log frequency", "--preset reduced"),
    "binary-linear": Variant("binary masks, linear frequency", "--preset reduced --log_freq 0"),
    "ratio-log": Variant("ratio masks, log frequency", f"--preset reduced {RATIO}"),
    "ratio-linear": Variant("ratio masks, linear frequency", f"--preset reduced {RATIO} --log_freq 0"),
    "bias": Variant("synthesizer `bias`", "--preset reduced --arch_synthesizer bias"),
    "avgpool": Variant("average pooling", "--preset reduced --img_pool avgpool"),
    "tuned": Variant(
        "`lite0`, trained in the last epoch", "--preset reduced --freeze_epochs 3 --lr_frame 1e-4"
    ),
    "resnet18fc": Variant(
        "`resnet18fc`, from scratch",
        "--preset reduced --arch_frame resnet18fc --pretrained none --lr_frame 1e-3",
    ),
    "mix3": Variant("mixtures of 3", "--preset reduced --num_mix 3"),
    "mix4": Variant("mixtures of 4", "--preset reduced --num_mix 4"),
    "small": Variant("preset `small`", f"--preset small {SIZE}"),
    "modern": Variant("preset `modern`, at the size of `small`", SMALLER_MODERN),
}
BASELINES = {  # see engine.baselines
    "mixture": "the mixture itself",
    "hpss": "harmonic/percussive separation",
    "nmf": "NMF, components clustered by MFCC",
    "nmf-supervised": "NMF, bases of each category",
}
ORACLES = {
    f"oracle-{mask}{suffix}": f"oracle: {mask} mask, {freq} frequency"
    for mask in ("binary", "ratio", "phase", "complex")
    for suffix, freq in (("-log", "log"), ("", "linear"))
}
OF_MORE = ("mixture", "nmf", "nmf-supervised", "oracle-binary-log", "oracle-complex-log")  # than two clips


class Table(NamedTuple):
    """A table: runs on the same mixtures, each compared with the first."""

    title: str
    runs: tuple
    num_mix: int = 2
    same: bool = False  # mixtures of two videos of one category


TABLES = (
    Table("Masks and frequency", (BASE, "binary-linear", "ratio-log", "ratio-linear")),
    Table("Synthesizer", (BASE, "bias")),
    Table("Pooling of image features", (BASE, "avgpool")),
    Table("Frame network", (BASE, "tuned", "resnet18fc")),
    Table("Presets", (BASE, "small", "modern")),
    Table("Without training, and ceilings", (BASE, *BASELINES, *ORACLES)),
    Table("Mixtures of three", ("mix3", *OF_MORE), 3),
    Table("Mixtures of four", ("mix4", *OF_MORE), 4),
    Table("Two videos of the same category", (BASE, "small"), same=True),
)
