"""The forward pass: what is true of masks, waveforms and losses whatever the networks have learned."""

import pytest
import torch

from models import build_criterion, build_frame, build_sound, build_synthesizer
from models.separator import Separator, Settings, choose_amp

LENGTH = 64 * 256 - 1  # samples that give 64 columns


def make_separator(**settings):
    torch.manual_seed(0)
    loss = "bce" if settings.get("binary_mask", True) else "l1"
    return Separator(
        build_sound("unet5", fc_dim=4, ngf=4),
        build_frame("resnet18dilated", fc_dim=4, pretrained=False),
        build_synthesizer("linear", fc_dim=4),
        build_criterion(loss),
        Settings(**settings),
    )


@pytest.fixture(scope="module")
def batch():
    """Two mixtures of two tones that do not overlap, and noise for pictures."""
    torch.manual_seed(0)
    times = torch.arange(LENGTH) / 11025
    tones = [0.4 * torch.sin(2 * torch.pi * hertz * times) for hertz in (300, 900, 2000, 500)]
    sources = torch.stack(tones).unflatten(0, (2, 2))
    return sources.sum(1), sources, torch.randint(0, 256, (2, 2, 3, 3, 64, 64), dtype=torch.uint8)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("log_freq", [True, False])
def test_the_true_mask_gives_back_the_source(batch, binary, log_freq):
    mix, sources, frames = batch
    separator = make_separator(binary_mask=binary, log_freq=log_freq).eval()
    with torch.no_grad():
        out = separator(mix, sources, frames, separate=True)
    true = sources[..., : out["oracle"].shape[-1]]
    noise = (out["oracle"] - true).square().sum(-1)
    assert (true.square().sum(-1) > 100 * noise).all()  # 20 dB
    assert out["estimates"].shape == out["oracle"].shape == (2, 2, 63 * 256)


def test_masks_of_ones_give_back_the_mixture(batch):
    separator = make_separator()
    spec = separator.spectral.stft(batch[0])
    waves = separator.apply_masks(torch.ones(2, 2, 256, 64), spec)
    for n in range(2):
        torch.testing.assert_close(waves[:, n], batch[0][:, : 63 * 256], atol=1e-5, rtol=0)


def test_loss_is_that_of_its_definition(batch):
    mix, sources, frames = batch
    separator = make_separator(weighted_loss=True).eval()
    with torch.no_grad():
        out = separator(mix, sources, frames, separate=True)
        warp = lambda x: separator.spectral.warp(separator.spectral.stft(x).abs())  # noqa: E731
        mag = warp(mix)[:, None] + 1e-10
        truth = (warp(sources) > 0.5 * mag).float()
        weight = torch.log1p(mag).clamp(1e-3, 10)
        bce = torch.nn.functional.binary_cross_entropy(out["masks"], truth, reduction="none")
    torch.testing.assert_close(out["loss"], (weight * bce).mean(dim=(1, 2, 3)))
    torch.testing.assert_close(out["true_masks"], truth)
    torch.testing.assert_close(out["weight"], weight)


def test_masks_follow_the_pictures(batch):
    """Swapping the pictures of the sources swaps the masks, and nothing else."""
    mix, _, frames = batch
    separator = make_separator().eval()
    with torch.no_grad():
        warped = separator.spectral.warp(separator.spectral.stft(mix).abs())
        masks = separator.predict_masks(warped, frames)
        swapped = separator.predict_masks(warped, frames.flip(1))
    torch.testing.assert_close(swapped, masks.flip(1))
    assert (masks[:, 0] - masks[:, 1]).abs().max() > 0


def test_softmax_shares_the_mixture_between_sources(batch):
    separator = make_separator(output_activation="softmax").eval()
    with torch.no_grad():
        masks = separator(*batch, separate=True)["masks"]
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 256, 64))


def test_inputs_stay_as_they_were(batch):
    before = [tensor.clone() for tensor in batch]
    make_separator()(*batch)["loss"].sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, batch, strict=True))


def test_pixel_energy_is_that_of_each_pixels_mask(batch):
    mix, _, frames = batch
    separator = make_separator().eval()
    energy = separator.pixel_energy(mix, frames)
    assert energy.shape == (2, 2, 4, 4)
    with torch.no_grad():
        warped = separator.spectral.warp(separator.spectral.stft(mix).abs()) + 1e-10
        pictures = (frames[:, 1, :, 1:2] / 255 - separator.mean) / separator.std
        maps = torch.sigmoid(separator.net_frame.forward_multiframe(pictures, pool=False)[:, :, 0])
        sound = separator.net_sound(warped.log()[:, None])
        masks = torch.sigmoid(separator.net_synthesizer.forward_pixelwise(maps, sound))
        expected = (masks * warped[:, None, None]).square().sum((3, 4))
    torch.testing.assert_close(energy[:, 1], expected, rtol=1e-4, atol=1e-6)


def test_pixel_energy_under_a_softmax_is_a_competition_of_pixels(batch):
    """A pixel that equals the average of its picture gets half of each bin of the picture's sound."""
    mix, _, frames = batch
    separator = make_separator(output_activation="softmax").eval()
    flat = torch.nn.Parameter(torch.zeros_like(separator.net_frame.fc.weight))
    separator.net_frame.fc.weight = flat
    energy = separator.pixel_energy(mix, frames)
    with torch.no_grad():
        warped = separator.spectral.warp(separator.spectral.stft(mix).abs())[:, None]
        sound = warped * separator.predict_masks(warped[:, 0], frames)
    expected = (0.5 * sound).square().sum((2, 3))
    torch.testing.assert_close(energy, expected[..., None, None].expand(-1, -1, 4, 4), rtol=1e-3, atol=1e-5)


def test_bf16_is_close_to_float32(batch):
    loss, loss_bf16 = (make_separator(amp=amp).eval()(*batch)["loss"] for amp in ("off", "bf16"))
    assert loss_bf16.dtype == torch.float32
    torch.testing.assert_close(loss_bf16, loss, rtol=0.02, atol=0)


def test_whole_module_runs_under_data_parallel(batch):
    """Without GPUs DataParallel calls the module itself: keys and a leading batch dimension must suit it."""
    out = torch.nn.DataParallel(make_separator())(*batch, separate=True)
    assert {len(value) for value in out.values()} == {2}


@pytest.mark.parametrize(
    ("capabilities", "amp"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"avx512_bf16": False, "avx512_bw": True}, "off"),
        ({}, "off"),
    ],
)
def test_auto_is_bf16_on_cpus_that_have_it(capabilities, amp, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_amp("auto", "cpu") == amp
    assert choose_amp("off", "cpu") == "off"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose_amp("auto", "cpu") == "off"


@pytest.mark.parametrize("emulated", [True, False])
def test_auto_is_bf16_on_gpus_that_have_it(emulated, monkeypatch):
    answers = lambda including_emulation=True: including_emulation or not emulated  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answers)
    assert choose_amp("auto", "cuda") == ("off" if emulated else "bf16")
    assert choose_amp("fp16", "cuda") == "fp16"


@pytest.mark.parametrize("num_frames", [1, 3])
def test_channels_come_last_in_replicas_too(batch, num_frames):
    """DataParallel copies weights as contiguous ones, so inputs have to set the order of channels."""
    replica = make_separator(amp="bf16")
    for tensor in [*replica.parameters(), *replica.buffers()]:
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    inputs = []
    for module in replica.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, args, out: inputs.extend([args[0], out]))
    mix, sources, frames = batch
    replica(mix, sources, frames[:, :, :, :num_frames])["loss"].sum().backward()
    assert len(inputs) > 40
    assert all(x.stride(1) == 1 for x in inputs)
    inputs.clear()
    replica.pixel_energy(mix, frames)
    assert all(x.stride(1) == 1 for x in inputs)


def test_compiled_networks_give_the_same(batch):
    mix, sources, frames = batch
    separator = make_separator().eval()
    names = list(separator.state_dict())
    with torch.no_grad():
        plain = separator(mix, sources, frames)["loss"]
        separator.compile_networks(backend="aot_eager")  # the default asks for a compiler, and a minute
        torch.testing.assert_close(separator(mix, sources, frames)["loss"], plain, rtol=1e-4, atol=1e-5)
    assert list(separator.state_dict()) == names


def test_a_compiled_backbone_can_be_unfrozen(batch):
    mix, sources, frames = batch
    gradients = []
    for compiled in (False, True):
        separator = make_separator()
        separator.net_frame.freeze()
        if compiled:
            separator.net_frame.features.compile(backend="aot_eager")
        kept = separator.train().backbone_features(frames)
        separator(mix, sources, kept)["loss"].mean().backward()
        parameters = list(separator.net_frame.features.parameters())
        assert all(parameter.grad is None for parameter in parameters)
        separator.net_frame.unfreeze()
        separator.train()(mix, sources, frames)["loss"].mean().backward()
        gradients.append([parameter.grad for parameter in parameters])
        assert not any(module.training for module in separator.net_frame.features.modules())
    for plain, other in zip(*gradients, strict=True):
        assert plain.abs().sum() > 0
        torch.testing.assert_close(other, plain, rtol=1e-3, atol=1e-6)


def test_phase_masks_restore_more_than_masks_of_magnitudes(batch):
    """Of two tones a quarter of a period apart, magnitudes ask for 0.7 each; one half of each is in phase."""
    times = torch.arange(LENGTH) / 11025 * 2 * torch.pi * 700
    sources = 0.3 * torch.stack([torch.sin(times), torch.cos(times)])[None]
    frames, errors = batch[2][:1], {}
    for target in ("magnitude", "phase"):
        separator = make_separator(binary_mask=False, mask_target=target).eval()
        with torch.no_grad():
            out = separator(sources.sum(1), sources, frames, separate=True)
        true = sources[..., : out["oracle"].shape[-1]]
        errors[target] = (out["oracle"] - true).square().sum()
        loudest = out["weight"][0, 0, :, 32].argmax()
        expected = torch.full((2,), 0.5 if target == "phase" else 0.5**0.5)
        torch.testing.assert_close(out["true_masks"][0, :, loudest, 32], expected, atol=0.01, rtol=0)
    assert errors["phase"] < 0.9 * errors["magnitude"]


def test_phase_masks_are_within_0_and_1_and_share_the_mixture():
    torch.manual_seed(0)
    sources = 0.1 * torch.randn(2, 3, LENGTH)
    separator = make_separator(binary_mask=False, mask_target="phase")
    spec_mix, specs = separator.spectral.stft(sources.sum(1)), separator.spectral.stft(sources)
    masks = separator._true_masks(specs, spec_mix[:, None], separator.spectral.warp(spec_mix.abs())[:, None])
    assert masks.min() == 0
    assert masks.max() == 1
    total, free = masks.sum(1), ((masks > 0) & (masks < 1)).all(dim=1)
    torch.testing.assert_close(total[free], torch.ones_like(total[free]), atol=1e-4, rtol=0)
