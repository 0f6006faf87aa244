"""The reference of `benchmark`: the same work, done as in older implementations of the paper.

Written plainly and not slowed down. librosa reads whole sound files. The data set opens and resizes frames
with PIL, normalises them to float and computes the spectrograms. The networks compute in float32 with
contiguous memory, one clip at a time, on spectrograms warped by `grid_sample` with a grid that numpy
computes in each step. Evaluation inverts with librosa and calls mir_eval twice, serially.

B batch, N clips of a mixture, L samples, T frames or columns and F rows of a spectrogram, as elsewhere.
"""

import os
import random
import warnings

import librosa
import mir_eval
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms

MEAN_RGB, STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
N_FFT, HOP = 1022, 256  # samples
NUM_LOG_FREQS = 256


class ReferenceDataset(torch.utils.data.Dataset):
    """Mixtures of `clips` (a list of `dataset.index.Clip`) with spectrograms and float frames.

    sampling: a `dataset.music.Sampling`. An item is {mag_mix, phase_mix [1, F, T], mags [N, 1, F, T], frames
    float [N, 3, T, H, W], waves [N, L]}. Evaluation takes the middle of clips `index`, `index + 1`, ….
    """

    def __init__(self, clips, sampling, train):
        self.clips, self.sampling, self.train = clips, sampling, train

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        s, waves, frames = self.sampling, [], []
        for n in range(s.num_mix):
            clip = self.clips[(index + n) % len(self.clips)]
            if self.train and n:
                clip = random.choice(self.clips)
            reach = max(8 * s.fps, s.num_frames // 2 * s.stride_frames)
            centre = clip.num_frames // 2
            if self.train and 2 * reach < clip.num_frames:
                centre = random.randint(reach + 1, clip.num_frames - reach)
            numbers = [centre + (i - s.num_frames // 2) * s.stride_frames for i in range(s.num_frames)]
            numbers = [min(max(number, 1), clip.num_frames) for number in numbers]
            waves.append(load_sound(clip.path_audio, (centre - 0.5) / s.fps, s, self.train))
            frames.append(load_clip(clip.path_frames, numbers, s.img_size, self.train))
        return join(waves, frames)


def load_sound(path, centre_seconds, sampling, train):
    """[L] float32 around `centre_seconds`, cut from the whole file."""
    length, rate = sampling.aud_len, sampling.aud_rate
    whole, rate_file = librosa.load(path, sr=None, mono=True)
    if rate_file != rate:
        whole = librosa.resample(whole, orig_sr=rate_file, target_sr=rate)
    if len(whole) < length:
        whole = np.tile(whole, length // len(whole) + 1)
    start = int(centre_seconds * rate) - length // 2
    low, high = max(start, 0), min(start + length, len(whole))
    wave = np.zeros(length, np.float32)
    wave[low - start : high - start] = whole[low:high]
    if train:
        wave *= random.random() + 0.5
    return np.clip(wave, -1, 1)


def load_clip(folder, numbers, size, train):
    """Normalised float32 frames [3, T, size, size], all with the same crop and mirroring."""
    pictures = [open_picture(os.path.join(folder, f"{number:06d}.jpg")) for number in numbers]
    pictures = [resize(picture, int(1.1 * size) if train else size) for picture in pictures]
    width, height = pictures[0].size
    left, top = round((width - size) / 2), round((height - size) / 2)
    mirror = False
    if train:
        left, top = random.randint(0, width - size), random.randint(0, height - size)
        mirror = random.random() < 0.5
    finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN_RGB, STD_RGB)])
    tensors = []
    for picture in pictures:
        picture = picture.crop((left, top, left + size, top + size))
        if mirror:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensors.append(finish(picture))
    return torch.stack(tensors, dim=1)


def open_picture(path):
    """Decode a picture as RGB."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


def resize(picture, side):
    """Resize a picture so that its shorter side is `side`, bicubic."""
    return transforms.functional.resize(picture, side, transforms.InterpolationMode.BICUBIC)


def spectrogram(wave):
    """[L] -> magnitude and phase, [1, F, T] each."""
    spec = librosa.stft(wave, n_fft=N_FFT, hop_length=HOP, pad_mode="reflect")
    return torch.from_numpy(np.abs(spec))[None], torch.from_numpy(np.angle(spec))[None]


def join(waves, frames):
    """The item of N waveforms and clips."""
    waves = [wave / len(waves) for wave in waves]
    mag_mix, phase_mix = spectrogram(np.sum(waves, axis=0))
    return {
        "mag_mix": mag_mix,
        "phase_mix": phase_mix,
        "mags": torch.stack([spectrogram(wave)[0] for wave in waves]),
        "frames": torch.stack(frames),
        "waves": torch.from_numpy(np.stack(waves)),
    }


class UnetBlock(nn.Module):
    """A level of the U-Net with the next one inside."""

    def __init__(self, width_outer, width, inside):
        super().__init__()
        down = nn.Conv2d(width_outer, width, 4, stride=2, padding=1, bias=False)
        layers = [nn.LeakyReLU(0.2, inplace=True), down]
        layers += [nn.BatchNorm2d(width), inside] if inside else []
        up = nn.Conv2d(2 * width if inside else width, width_outer, 3, padding=1, bias=False)
        layers += [nn.ReLU(inplace=True), upsample(), up, nn.BatchNorm2d(width_outer)]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        """[B, C, F, T] -> [B, 2 C, F, T]."""
        return torch.cat([x, self.model(x)], dim=1)


class Unet(nn.Module):
    """The sound network, with the released weights' names."""

    def __init__(self, fc_dim, num_downs, ngf):
        super().__init__()
        block = None
        for level in reversed(range(1, num_downs)):
            block = UnetBlock(ngf * min(2 ** (level - 1), 8), ngf * min(2**level, 8), block)
        first = nn.Conv2d(1, ngf, 4, stride=2, padding=1, bias=False)
        last = nn.Conv2d(2 * ngf, fc_dim, 3, padding=1)
        self.bn0 = nn.BatchNorm2d(1)
        self.unet_block = nn.Module()
        self.unet_block.model = nn.Sequential(first, block, nn.ReLU(inplace=True), upsample(), last)

    def forward(self, x):
        """[B, 1, F, T] -> [B, C, F, T]."""
        return self.unet_block.model(self.bn0(x))


def upsample():
    """Twice the size."""
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


class FrameNet(nn.Module):
    """The dilated ResNet-18 with max pooling, with the released weights' names."""

    def __init__(self, fc_dim):
        super().__init__()
        resnet = torchvision.models.resnet18(weights=None)
        for name, module in resnet.layer4.named_modules():
            if isinstance(module, nn.Conv2d):
                dilation = 1 if name == "0.conv1" else 2
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    module.dilation = module.padding = (dilation, dilation)
        self.features = nn.Sequential(*list(resnet.children())[:-2])
        self.fc = nn.Conv2d(512, fc_dim, 3, padding=1)

    def forward(self, x):
        """[B, 3, T, H, W] -> [B, C]."""
        size_b, _, size_t = x.shape[:3]
        x = x.permute(0, 2, 1, 3, 4).contiguous()
        x = self.fc(self.features(x.view(size_b * size_t, *x.shape[2:])))
        x = x.view(size_b, size_t, *x.shape[1:]).permute(0, 2, 1, 3, 4)
        return F.adaptive_max_pool3d(x, 1).view(size_b, -1)


class ReferenceNets(nn.Module):
    """The recipe's networks with the processing of a training step."""

    def __init__(self, arch_sound="unet7", num_channels=32, ngf=64):
        super().__init__()
        self.net_sound = Unet(num_channels, int(arch_sound.removeprefix("unet")), ngf)
        self.net_frame = FrameNet(num_channels)
        self.scale, self.bias = nn.Parameter(torch.ones(num_channels)), nn.Parameter(torch.zeros(1))

    def load(self, separator):
        """Copy the weights of a `models.separator.Separator`."""
        self.net_sound.load_state_dict(separator.net_sound.state_dict())
        self.net_frame.load_state_dict(separator.net_frame.state_dict())
        self.scale.data.copy_(separator.net_synthesizer.scale.data)
        self.bias.data.copy_(separator.net_synthesizer.bias.data)
        return self

    def forward(self, batch):
        """(loss, masks [B, 1, F, T] of each source) of a batch of `ReferenceDataset`."""
        mag_mix, mags = batch["mag_mix"] + 1e-10, batch["mags"].unbind(dim=1)
        grid = warp_grid(len(mag_mix), NUM_LOG_FREQS, mag_mix.shape[3], to_log=True).to(mag_mix.device)
        mag_mix = F.grid_sample(mag_mix, grid, align_corners=True)
        mags = [F.grid_sample(mag, grid, align_corners=True) for mag in mags]
        weight = torch.clamp(torch.log1p(mag_mix), 1e-3, 10)
        true_masks = [(mag > 0.5 * mag_mix).float() for mag in mags]
        feat_sound = self.net_sound(torch.log(mag_mix))
        feats = [torch.sigmoid(self.net_frame(frames)) for frames in batch["frames"].unbind(dim=1)]
        masks = [torch.sigmoid(self.synthesize(feat, feat_sound)) for feat in feats]
        pairs = zip(masks, true_masks, strict=True)
        losses = [F.binary_cross_entropy(mask, true, weight) for mask, true in pairs]
        return torch.stack(losses).mean(), masks

    def synthesize(self, feat_img, feat_sound):
        """[B, C], [B, C, F, T] -> [B, 1, F, T]."""
        size_b, channels, rows, columns = feat_sound.shape
        image = (feat_img * self.scale).view(size_b, 1, channels)
        return torch.bmm(image, feat_sound.view(size_b, channels, -1)).view(size_b, 1, rows, columns) + (
            self.bias
        )


def warp_grid(size_b, height, width, to_log):
    """The grid [B, height, width, 2] of the warp to log-frequency or back."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    y = (21 ** ((y + 1) / 2) - 11) / 10 if to_log else 2 * np.log(10 * y + 11) / np.log(21) - 1
    grid = np.stack([x, y], axis=2).astype(np.float32)
    return torch.from_numpy(np.repeat(grid[None], size_b, axis=0))


def separate(masks, batch):
    """Apply masks (N of [B, 1, F, T]) to each mixture: a list of B waveforms [N, L']."""
    mag_mix, phase = batch["mag_mix"] + 1e-10, batch["phase_mix"][:, 0].numpy()
    grid = warp_grid(len(mag_mix), mag_mix.shape[2], mag_mix.shape[3], to_log=False).to(mag_mix.device)
    masks = [(F.grid_sample(mask, grid, align_corners=True) > 0.5).float() for mask in masks]
    mags = torch.cat([mask * mag_mix for mask in masks], dim=1).cpu().numpy()
    return [np.stack([invert(mag, phase[b]) for mag in mags[b]]) for b in range(len(mags))]


def invert(mag, phase):
    """[F, T] magnitude and phase -> waveform in -1..1."""
    return np.clip(librosa.istft(mag * np.exp(1j * phase), hop_length=HOP), -1, 1)


def score(sources, estimates, mix):
    """(sdr, sir, sar, sdr of the mixture), [N] each, of waveforms [N, L] and [L]."""
    mixes = np.stack([mix] * len(sources))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the module goes away in mir_eval 0.9
        sdr, sir, sar, _ = mir_eval.separation.bss_eval_sources(sources, estimates, False)
        return sdr, sir, sar, mir_eval.separation.bss_eval_sources(sources, mixes, False)[0]


def evaluate(nets, loader):
    """[{scores of a mixture}] of all batches of a loader of `ReferenceDataset`, in eval mode."""
    nets.eval()
    results = []
    for batch in loader:
        with torch.no_grad():
            _, masks = nets(batch)
        for estimates, waves in zip(separate(masks, batch), batch["waves"].numpy(), strict=True):
            sources = waves[:, : estimates.shape[1]]
            results.append(score(sources, estimates, sources.sum(axis=0)))
    return results
