"""A page to drop videos on, for this machine alone: `python -m pages.serve`."""

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile

import environment  # noqa: F401

import separate
from engine.options import AUTO
from utils import Parser, UserError, command, set_up_logging, whole

HOST = "127.0.0.1"  # reachable from this machine only
EXAMPLES = """
python -m pages.serve
python -m pages.serve --ckpt ckpt/demo --out out
"""
logger = logging.getLogger(__name__)


def load(args):
    """(a function (path, folder, name) -> line that separates a video, the networks' folder).

    Raises UserError if the networks cannot be used.
    """
    from engine.build import build_sampling
    from engine.card import card_summary
    from engine.machine.memory import keep_memory
    from engine.machine.precision import set_precision
    from engine.separation.outputs import Request, separate_video
    from pages.serve.jobs import check_seconds

    num_gpus = separate.count_gpus(None)
    if not num_gpus:
        keep_memory()
    pixels, options, folder = separate.load(argparse.Namespace(ckpt=args.ckpt, num_gpus=num_gpus, amp="auto"))
    set_precision(pixels.separator.settings.amp)

    def separate_one(path, folder_out, name):
        check_seconds(path, args.max_seconds)
        request = Request(
            num_sources=args.num_sources,
            notes=(f"networks: {folder}",),
            title=name,
            trained_on=card_summary(folder),
        )
        return separate_video(path, folder_out, pixels, build_sampling(options), request)

    return separate_one, folder


def serve(args):
    """Serve until Ctrl-C."""
    try:
        from werkzeug.serving import make_server

        from pages.serve.app import make_app
    except ModuleNotFoundError as error:
        raise UserError(f"no {error.name}: pip install -r requirements-serve.txt") from None
    from pages.serve.jobs import Jobs

    with _listen(args.port) as listener, tempfile.TemporaryDirectory(prefix="serve-") as temporary:
        separate_one, folder = load(args)
        uploads, results = (os.path.join(temporary, name) for name in ("uploads", "results"))
        os.makedirs(uploads)
        os.makedirs(args.out or results, exist_ok=True)
        with Jobs(uploads, args.out or results, separate_one) as jobs:
            networks = os.path.basename(os.path.abspath(folder))
            notes = f"At most {args.max_mb} MB and {args.max_seconds} s.", f"Networks: {networks}"
            app = make_app(jobs, args.max_mb, notes)
            port = listener.getsockname()[1]
            server = make_server(HOST, port, app, threaded=True, fd=listener.fileno())
            print(f"http://{HOST}:{port}/ takes videos; Ctrl-C ends it", flush=True)
            server.serve_forever()  # returns on Ctrl-C


def _listen(port):
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise UserError(f"--port {port}: {os.strerror(error.errno)}") from None


def _parse(argv):
    text = "A page to drop videos on, for this machine alone."
    parser = Parser(EXAMPLES, prog="python -m pages.serve", description=text)
    add = parser.add_argument
    add("--ckpt", metavar="FOLDER", help="folder of trained networks, ckpt/ID (the newest in ./ckpt)")
    add("--out", metavar="FOLDER", help="keep results here (default: they are deleted at the end)")
    add("--port", type=whole(0, 65535), default=7860, help="0: any free one (%(default)s)")
    add("--max_mb", type=whole(1, 10**6), default=500, help="size of a video, in MB (%(default)s)")
    add("--max_seconds", type=whole(1, 4 * 3600), default=600, help="length of a video (%(default)s)")
    text = "number of sources to find, 1 to 8, or auto: one or two (%(default)s)"
    add("--num_sources", type=separate.source_count, default=AUTO, help=text)
    return parser.parse_args(argv)


@command
def main(argv=None):
    """The command."""
    args = _parse(argv)
    set_up_logging()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
    for number in (signal.SIGINT, signal.SIGTERM):  # both end it as Ctrl-C does, also in the background
        signal.signal(number, signal.default_int_handler)
    serve(args)


if __name__ == "__main__":
    sys.exit(main())
