"""What float32 is on a GPU; the settings can be read without one."""

import pytest
import torch

import main
from engine.machine.precision import set_precision
from tests.helpers import SMALL


@pytest.fixture
def settings():
    """A function that gives (TF32 in convolutions, in products, search for algorithms)."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = True, True, False
    yield lambda: (cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark)
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = before


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("amp", "tf32"), [("off", False), ("bf16", True), ("fp16", True)])
def test_off_is_float32_and_not_tf32(settings, amp, tf32):
    set_precision(amp)
    assert settings() == (tf32, tf32, False)
    set_precision(amp, fixed_shapes=True)
    assert settings() == (tf32, tf32, True)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_command_sets_it(settings, monkeypatch, tmp_path, mode):
    seen = []
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "sound_best.pth").touch()
    for name in ("train", "evaluate"):
        monkeypatch.setattr(main, name, lambda args: seen.append(settings()))
    main.main([*SMALL, "--mode", mode, "--id", "x", "--ckpt", str(tmp_path), "--amp", "off"])
    assert seen == [(False, False, mode == "train")]
