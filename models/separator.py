"""The forward pass of training, evaluation and separation: waveforms and frames -> masks -> waveforms."""

from typing import NamedTuple

import torch
from torch import nn

from models.criterion import activate
from models.spectral import Spectral

EPSILON = 1e-10  # added to the mixture's magnitude
MAX_RATIO = 5.0  # of source to mixture in a ratio mask
WEIGHTS = 1e-3, 10.0  # range of the loss weighting
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CPU_BF16 = ("avx512_bf16", "amx_bf16")  # CPUs with bf16 multiplication; others emulate it


def choose_amp(amp, device_type):
    """Precision for a device of type `cuda` or `cpu`: auto is bf16 if the hardware supports it, else off."""
    if amp != "auto":
        return amp
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "off"
    has = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older versions of torch
    return "bf16" if any(has.get(name) for name in CPU_BF16) else "off"


class Settings(NamedTuple):
    """Processing around the networks; the defaults are the published recipe's."""

    binary_mask: bool = True
    mask_target: str = "magnitude"  # magnitude | phase, see `true_masks`
    mask_thres: float = 0.5
    weighted_loss: bool = True
    log_freq: bool = True
    img_activation: str = "sigmoid"
    sound_activation: str = "no"
    output_activation: str = "sigmoid"
    stft_frame: int = 1022
    stft_hop: int = 256
    amp: str = "off"  # off | bf16 | fp16, see `choose_amp`


def true_masks(kind, spectral, spec_sources, spec_mix, warped_mix):
    """[B, N, F, T] of complex spectrograms of sources and mixture, and the mixture's warped magnitude.

    binary: 1 where a source has more than half of the mixture's magnitude; ratio: of the magnitudes.
    phase: the part of a source in phase with the mixture, which is all that a real mask can restore, relative
    to the mixture (the phase-sensitive filter of Erdogan et al., 2015). Before they are limited to 0..1,
    these masks sum to one, as a softmax does; ratios of magnitudes sum to more.
    complex: the complex ratio of source and mixture, its magnitude limited as that of ratio masks. The ratio
    is warped, not the spectrograms: their phases alternate from row to row, and interpolation cancels them.
    """
    if kind in ("phase", "complex"):
        phase = spec_mix / (spec_mix.abs() + EPSILON)
        in_phase = spec_sources * phase.conj()
        if kind == "phase":
            return (spectral.warp(in_phase.real) / warped_mix).clamp(0.0, 1.0)
        ratio = in_phase / (spec_mix.abs() + EPSILON)
        return spectral.warp(ratio * (MAX_RATIO / ratio.abs().clamp_min(MAX_RATIO)))
    warped_sources = spectral.warp(spec_sources.abs())
    if kind == "binary":
        return (warped_sources > 0.5 * warped_mix).to(warped_mix.dtype)
    return (warped_sources / warped_mix).clamp(0.0, MAX_RATIO)


def apply_masks(spectral, masks, spec_mix, threshold=None):
    """The mixture [B, F, T] (complex) under masks [B, N, F, T] -> waveforms [B, N, L] in -1..1.

    threshold: above which masks count as 1, otherwise as 0; None: masks are used as they are.
    """
    masks = spectral.unwarp(masks)
    if threshold is not None:
        masks = (masks > threshold).to(masks.dtype)
    return spectral.istft(masks * spec_mix[:, None]).clamp(-1.0, 1.0)


class Separator(nn.Module):
    """The three networks and the processing that joins them, in one module for DataParallel."""

    def __init__(self, net_sound, net_frame, net_synthesizer, criterion, settings):
        super().__init__()
        self.net_sound = net_sound
        self.net_frame = net_frame
        self.net_synthesizer = net_synthesizer
        self.criterion = criterion
        self.settings = settings
        self.spectral = Spectral(settings.stft_frame, settings.stft_hop, settings.log_freq)
        self.register_buffer("mean", torch.tensor(net_frame.mean_rgb)[:, None, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(net_frame.std_rgb)[:, None, None, None], persistent=False)
        # Faster in low precision. The networks' inputs are laid out channels last too, since DataParallel's
        # copies of the weights are contiguous.
        self.channels_last = net_sound.channels_last = settings.amp != "off"
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def compile_networks(self, **options):
        """Compile the expensive parts when they are first called; options: of `torch.compile`."""
        self.net_sound.compile(**options)
        self.net_frame.features.compile(**options)

    def forward(self, mix, sources, frames, separate=False, average=None):
        """{"loss": [B]}, and with `separate` what evaluation and pages need.

        mix [B, L]; sources [B, N, L], which sum to it; frames uint8 [B, N, 3, T, H, W], or their
        `backbone_features` or `image_features`. With `separate`: masks, true_masks [B, N, F, T], weight
        [B, 1, F, T], and estimates, oracle [B, N, (T - 1) * hop]: the mixture under masks and true_masks.
        average [B, N, C], the same image features for every source: also average [B, (T - 1) * hop], the
        estimate from them.
        """
        spec_mix = self.spectral.stft(mix)
        warped_mix = self.spectral.warp(spec_mix.abs() + EPSILON)
        true_masks = self._true_masks(self.spectral.stft(sources), spec_mix[:, None], warped_mix[:, None])
        weight = self._loss_weight(warped_mix[:, None])
        feat_sound = self.sound_features(warped_mix)
        logits = self._logits(feat_sound, frames)
        out = {"loss": self.criterion.of_logits(logits, self.settings.output_activation, true_masks, weight)}
        if separate:
            masks = activate(logits, self.settings.output_activation)
            out |= {"masks": masks, "true_masks": true_masks, "weight": weight}
            out["estimates"] = self.apply_masks(masks, spec_mix)
            out["oracle"] = self.apply_masks(true_masks, spec_mix)
        if average is not None:
            masks = activate(self._logits(feat_sound, average), self.settings.output_activation)
            out["average"] = self.apply_masks(masks[:, :1], spec_mix)[:, 0]
        return out

    def predict_masks(self, warped_mix, frames):
        """Masks [B, N, F, T] of the mixture [B, F, T] (warped) for clips uint8 [B, N, 3, T, H, W]."""
        logits = self._logits(self.sound_features(warped_mix), frames)
        return activate(logits, self.settings.output_activation)

    def _logits(self, feat_sound, frames):
        """Float32 masks before their activation."""
        feat_img = self.image_features(frames) if frames.dim() > 3 else frames
        with self.autocast(feat_sound.device):
            return self.net_synthesizer.forward_sources(feat_img, feat_sound).float()

    def apply_masks(self, masks, spec_mix):
        """The mixture [B, F, T] (complex) under masks [B, N, F, T] -> waveforms [B, N, L] in -1..1."""
        return apply_masks(
            self.spectral, masks, spec_mix, self.settings.mask_thres if self.settings.binary_mask else None
        )

    @torch.no_grad()
    def pixel_energy(self, mix, frames):
        """The energy of the sound under each pixel's mask, [B, N, h, w]: which pixels produce the sound.

        mix [B, L]; frames uint8 [B, N, 3, T, H, W], of which the middle frame is used. The sound is the
        mixture, as published. Softmax logits are only meaningful relative to each other, so with softmax
        masks each pixel competes with the average pixel of its frame for the sound that the frame was
        assigned.
        """
        warped_mix = self.spectral.warp(self.spectral.stft(mix).abs() + EPSILON)
        sound, reference = warped_mix[:, None].expand(-1, frames.shape[1], -1, -1), 0.0
        middle = frames.shape[3] // 2
        with self.autocast(mix.device):
            pictures = self.normalise(frames[:, :, :, middle : middle + 1])
            maps = self.net_frame.forward_multiframe(pictures, pool=False)[:, :, 0]
            maps = activate(maps, self.settings.img_activation).unflatten(0, frames.shape[:2])
            feat_sound = self.sound_features(warped_mix)
            if self.settings.output_activation == "softmax":
                sound = sound * self.predict_masks(warped_mix, frames)
                average = maps.mean(dim=(3, 4))  # logits are linear in image features
                reference = self.net_synthesizer.forward_sources(average, feat_sound)[:, :, None]
            rows = [self._energy_of(row, feat_sound, reference, sound) for row in maps.unbind(dim=3)]
        return torch.stack(rows, dim=2)

    def _energy_of(self, feats, feat_sound, reference, sound):
        """[B, N, w] for the pixels [B, N, C, w]: one row at a time to save memory."""
        pixels = feats.transpose(2, 3)
        logits = self.net_synthesizer.forward_sources(pixels.flatten(1, 2), feat_sound)
        logits = logits.unflatten(1, pixels.shape[1:3]) - reference
        activation = self.settings.output_activation
        # A softmax over two logits is the sigmoid of their difference.
        masks = activate(logits.float(), "sigmoid" if activation == "softmax" else activation)
        return (masks * sound[:, :, None]).square().sum(dim=(3, 4))

    def image_features(self, frames):
        """Image features [B, N, C] of clips uint8 [B, N, 3, T, H, W], or of their `backbone_features`."""
        with self.autocast(frames.device):
            if frames.dtype == torch.uint8:
                features = self.net_frame.forward_multiframe(self.normalise(frames), pool=True)
            else:
                features = self.net_frame.head(frames.flatten(0, 1).float(), pool=True)
            return activate(features, self.settings.img_activation).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def backbone_features(self, frames):
        """The least that `image_features` needs of clips uint8 [B, N, 3, T, H, W] whose backbone is frozen.

        Half precision [B, N, K, t, h, w], where t, h and w are 1 if features are averaged.
        """
        with self.autocast(frames.device):
            maps = self.net_frame.condense(self.net_frame.backbone_maps(self.normalise(frames)).float())
            return maps.half().unflatten(0, frames.shape[:2])

    def sound_features(self, warped_mix):
        """Sound features [B, C, F, T] of the mixture [B, F, T] (warped)."""
        with self.autocast(warped_mix.device):
            features = self.net_sound(warped_mix[:, None].log())
            return activate(features, self.settings.sound_activation)

    def normalise(self, frames):
        """uint8 [B, N, 3, T, H, W] -> float [B * N, 3, T, H, W] as the frame network expects it."""
        frames = frames.flatten(0, 1)
        if self.channels_last:
            frames = frames.contiguous(memory_format=torch.channels_last_3d)
        return (frames / 255 - self.mean) / self.std

    def _true_masks(self, spec_sources, spec_mix, warped_mix):
        """`true_masks` of the kind that the networks learn."""
        kind = "binary" if self.settings.binary_mask else "ratio"
        kind = "phase" if self.settings.mask_target == "phase" else kind
        return true_masks(kind, self.spectral, spec_sources, spec_mix, warped_mix)

    def _loss_weight(self, mix):
        return torch.log1p(mix).clamp(*WEIGHTS) if self.settings.weighted_loss else torch.ones_like(mix)

    def autocast(self, device):
        """The autocast context for the networks."""
        amp = self.settings.amp
        return torch.autocast(device.type, dtype=AMP_DTYPES.get(amp), enabled=amp != "off")
