"""Flags: defaults that work together, refusals that say why, and the model id."""

import argparse
import json

import pytest

from arguments import make_parser, network_options, parse_args
from engine.options import batch_size, frozen_epochs, kept_views, model_id, path_val, training_options
from utils import UserError

RECIPE = (
    "--id MUSIC --num_frames 3 --stride_frames 24 --binary_mask 1 --loss bce --weighted_loss 1 "
    "--lr_steps 40 80 --num_epoch 100"
).split()
RELEASED = (
    "MUSIC-2mix-LogFreq-resnet18dilated-unet7-linear-frames3stride24-maxpool-binary-weightedLoss"
    "-channels32-epoch100-step40_80"
)
REFERENCE_FLAGS = (
    "id num_mix arch_sound arch_frame arch_synthesizer weights_sound weights_frame weights_synthesizer "
    "num_channels num_frames stride_frames img_pool img_activation sound_activation output_activation "
    "binary_mask mask_thres loss weighted_loss log_freq num_gpus batch_size_per_gpu workers num_val num_vis "
    "audLen audRate stft_frame stft_hop imgSize frameRate seed ckpt disp_iter eval_epoch mode list_train "
    "list_val dup_trainset num_epoch lr_frame lr_sound lr_synthesizer lr_steps beta1 weight_decay"
).split()


def test_the_recipe_has_the_released_name():
    assert model_id(parse_args(RECIPE)) == RELEASED


def test_every_flag_is_there_and_has_help():
    actions = {action.dest: action for action in make_parser()._actions}
    assert set(REFERENCE_FLAGS) <= set(actions)
    assert all(action.help for action in actions.values())
    assert "--img_norm" in make_parser().format_help()


def test_a_run_without_flags_is_valid():
    args = parse_args([])
    assert (args.binary_mask, args.loss) == (1, "bce")
    assert args.num_gpus == 0
    assert batch_size(parse_args([], gpus_present=8)) == 4 * 32


def test_new_options_tell_runs_apart():
    name = model_id(parse_args(["--ngf", "16", "--img_norm", "batch", "--optimizer", "adamw"]))
    assert name.endswith("-ngf16-imgNorm-adamw")


def test_evaluation_is_of_a_mixture_list_if_one_is_given():
    assert path_val(parse_args([])) == "data/val.csv"
    assert path_val(parse_args(["--list_val", "a.csv", "--list_val_mix", "b.csv"])) == "b.csv"


def test_a_mixture_list_is_an_option_of_the_run_and_runs_without_one_dont_know_it():
    one = training_options(parse_args(["--list_val_mix", "b.csv"]))
    assert one.pop("list_val_mix") == "b.csv"
    assert one == training_options(parse_args([]))


def test_options_of_a_run_leave_out_what_changes_nothing(tmp_path):
    one = training_options(parse_args(["--workers", "0", "--batch_size_per_gpu", "8"]))
    other = training_options(parse_args(["--num_gpus", "2", "--batch_size_per_gpu", "4"], gpus_present=2))
    assert one == other
    assert json.loads(json.dumps(one)) == one


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--binary_mask 1 --loss l1", "binary masks need --loss bce"),
        ("--binary_mask 0 --loss bce", "ratio masks"),
        ("--mask_target phase", "--mask_target phase is for ratio masks"),
        ("--warmup -1", "--warmup: expected 0 or more"),
        ("--arch_sound tfc_tdf --audLen 60000", "tfc_tdf needs a multiple of 16"),
        ("--arch_sound tfc_tdf --log_freq 0 --stft_frame 1006 --stft_hop 256", "504 frequencies"),
        ("--output_activation relu", "needs --output_activation sigmoid or softmax"),
        ("--amp fp16", "needs a GPU"),
        ("--num_gpus 2", "2 requested, 0 found"),
        ("--audLen 60000", "--audLen 65535"),
        ("--audLen 500 --arch_sound unet5", "--audLen"),
        ("--log_freq 0 --stft_frame 1000 --stft_hop 256", "501 frequencies"),
        ("--stft_hop 1000", "--stft_hop"),
        ("--num_mix 1", "--num_mix: expected 2 or more, found 1"),
        ("--num_val 0", "--num_val"),
        ("--beta1 1.5", "--beta1"),
        ("--lr_sound nan", "--lr_sound"),
        ("--id a/b", "plain name"),
        ("--mode eval", "needs --id"),
        ("--arch_sound unet9", "invalid choice"),
        ("--arch_frame resnet19", "--arch_frame: expected resnet18fc, resnet18dilated, lite0 or timm:NAME"),
        ("--preset large", "invalid choice"),
        ("--arch_frame lite0 --sync_bn", "only if it is frozen: --lr_frame 0"),
        ("--lr_frame 0 --freeze_epochs 3", "--freeze_epochs needs a --lr_frame above 0"),
        ("--freeze_epochs -1", "--freeze_epochs: expected 0 or more"),
        ("--protocol x.json", "--protocol is for --mode eval"),
        ("--val_pairs same", "--val_pairs same is for --mode eval"),
        ("--val_pairs same --list_val_mix x", "--val_pairs same sets the mixtures to evaluate"),
        ("--mix_pairs same", "invalid choice"),
        ("--no_such_flag", "error: unrecognized arguments: --no_such_flag; "),
        ("--num_epochs 3", "error: unrecognized arguments: --num_epochs 3; did you mean --num_epoch?\n"),
        ("--lr-sound=3", "did you mean --lr_sound?"),
        ("3", "error: unrecognized arguments: 3; "),
    ],
)
def test_what_cannot_work_is_refused_with_a_reason(capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        parse_args(flags.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_preset_is_nothing_but_its_options():
    by_hand = training_options(parse_args([*RECIPE, "--num_val", "256", "--batch_size_per_gpu", "20"]))
    assert training_options(parse_args(["--preset", "published"])) == by_hand


def test_evaluation_takes_the_options_of_the_run_before_those_of_the_preset(tmp_path):
    (tmp_path / "x").mkdir()
    options = training_options(parse_args(["--preset", "small", "--ngf", "8"]))
    (tmp_path / "x" / "options.json").write_text(json.dumps(options))
    flags = ["--mode", "eval", "--id", "x", "--ckpt", str(tmp_path), "--preset", "published"]
    args = parse_args(flags)
    assert (args.ngf, args.arch_frame, args.num_val) == (8, "lite0", 256)
    with pytest.raises(SystemExit):
        parse_args(["--mode", "eval", "--preset", "small"])


def test_the_name_of_a_backbone_is_part_of_a_plain_name():
    assert "-timm-resnet10t-" in model_id(parse_args(["--arch_frame", "timm:resnet10t"]))


def test_runs_of_before_know_nothing_of_views():
    assert "num_views" not in training_options(parse_args([]))
    assert kept_views(parse_args(["--num_views", "3"])) == 0
    assert kept_views(parse_args(["--num_views", "3", "--lr_frame", "0"])) == 3


def test_a_backbone_that_is_frozen_at_first_has_views_and_may_share_statistics():
    args = parse_args("--freeze_epochs 5 --num_views 3 --arch_frame lite0 --sync_bn".split())
    assert (frozen_epochs(args), kept_views(args)) == (5, 3)
    assert model_id(args).endswith("-freeze5")
    assert frozen_epochs(parse_args(["--lr_frame", "0", "--num_epoch", "7"])) == 7
    assert "freeze_epochs" not in training_options(parse_args([]))


def test_evaluation_reads_the_options_of_the_run(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    options = training_options(parse_args(["--ngf", "16", "--arch_sound", "unet5", "--num_epoch", "3"]))
    (folder / "options.json").write_text(json.dumps(options))
    flags = ["--mode", "eval", "--id", "x", "--ckpt", str(tmp_path)]
    args = parse_args(flags)
    assert (args.ngf, args.arch_sound, args.num_epoch) == (16, "unet5", 100)
    assert parse_args([*flags, "--ngf", "8"]).ngf == 8
    (folder / "options.json").write_text("{")
    with pytest.raises(UserError, match=r"options\.json"):
        parse_args(flags)


def test_evaluation_reads_no_weights_to_start_training_from(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    with pytest.raises(SystemExit):
        parse_args(["--mode", "eval", "--id", "x", "--ckpt", str(tmp_path), "--weights_frame", "x.pth"])
    assert "--weights_frame is for training" in capsys.readouterr().err


def test_what_depends_on_gpus_is_left_until_they_are_counted():
    args = parse_args(["--amp", "fp16", "--compile", "--sync_bn"], gpus_present=None)
    assert args.num_gpus is None
    assert parse_args(["--num_gpus", "2"], gpus_present=None).num_gpus == 2


def test_constants_that_two_rooms_know_agree():
    """Options must not load torch for a number."""
    from engine import options
    from models import spectral

    assert options.NUM_LOG_FREQS == spectral.NUM_LOG_FREQS


def test_separation_reads_no_weights_to_start_training_from(tmp_path):
    with pytest.raises(UserError, match="--weights_sound is for training: networks are read from --ckpt"):
        network_options(argparse.Namespace(weights_sound="x.pth"), str(tmp_path))
