"""Evaluation: separate the validation mixtures, score them, write metrics and the page."""

import contextlib
import logging

import numpy as np
import torch

import viz
from engine.evaluation.metrics import FIXED, SCORES, SILENT_ESTIMATE, find_silence, score_batch, summarize
from engine.evaluation.results import Mixture, submit
from engine.evaluation.statistics import score_statistics
from engine.failures import Failures
from engine.machine import distributed
from models.spectral import row_frequencies
from utils import UserError, progress

logger = logging.getLogger(__name__)

SOUNDS = ("sources", "estimates", "mix", "oracle")  # what scores are made of
MAX_PENDING = 32  # separated mixtures waiting for a worker; bounds memory


class Evaluator:
    """Separates and scores the mixtures of a loader.

    model: the module to call, `separator` or a DataParallel of it; pool: see `results.make_pool`.
    bss: what computes SDR, SIR and SAR: "fast", in batches on the device, or "mir_eval", in the pool.
    """

    def __init__(self, model, separator, device, loader, pool, path_list, bss="fast"):
        self.model = model
        self.separator = separator
        self.device = device
        self.loader = loader
        self.pool = pool
        num_there = sum(clip.num_frames > 0 for clip in loader.dataset.clips)
        self.failures = Failures(num_there, path_list)
        self.bss = bss
        # {mixture's index: its scores in `FIXED`}. These depend on the true sounds and masks only, which the
        # loader always gives alike for an index: computed in the first run, kept for the others.
        self.fixed = {}
        self.checksums = {}  # {clip's number: its checksums}, if the data set computes them
        self.features = {}  # {clip's number: image features of its picture, by the networks of this run}

    def run(self, folder, num_vis=0, floors=False):
        """Evaluate all mixtures and write page rows for the first `num_vis` into `folder`.

        floors: also score with the wrong pictures, swapped and average, see `metrics.score_batch`. Returns
        (summary, list of `Result`). Raises UserError if too many clips cannot be read.
        """
        self.model.eval()
        self.features.clear()
        average = self._average_features() if floors else None
        results, futures, num_failed = [], [], 0
        try:
            with progress(total=len(self.loader.sampler), desc="evaluation", unit="mixture") as bar:
                for batch in self.loader:
                    self.failures.add(batch)
                    num_failed += len(batch["dropped"])
                    self._add_checksums(batch)
                    for mixture in self._separate(batch, num_vis, average):
                        futures.append(submit(self.pool, mixture, folder))
                        if len(futures) > MAX_PENDING:
                            results.append(futures.pop(0).result())
                    bar.update(len(batch["info"]) + len(batch["dropped"]))
                results += [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        self.failures.join()
        for part in distributed.gather(self.checksums):
            self.checksums.update(part)
        results, num_failed = _join(results, num_failed)
        for result in results:
            if result.scores:
                self.fixed[result.index] = {key: result.scores[key] for key in FIXED}
            if result.complaint:
                logger.warning("mixture %d is not on the page: %s", result.index, result.complaint)
        return _summarize(results, num_failed, len(self.failures)), results

    def _add_checksums(self, batch):
        for info in batch["info"] + batch["dropped"]:
            self.checksums.update(zip(info["clips"], info.get("checksums", ()), strict=False))

    def _separate(self, batch, num_vis, average):
        """Separate a batch: yields a `Mixture` for each. average [C]: see `_average_features`, or None."""
        if not batch["info"]:
            return
        swapped = average is not None
        tensors = [batch[key].to(self.device, non_blocking=True) for key in ("mix", "sources", "frames")]
        with torch.no_grad():
            features = self._image_features(batch["info"], tensors[2])
            # By position: DataParallel would send a keyword to more GPUs than a small batch has mixtures for.
            average = average.expand(*tensors[1].shape[:2], -1) if swapped else None
            out = self.model(*tensors[:2], features, True, average)
        length = out["estimates"].shape[-1]
        out |= {"mix": tensors[0][:, :length], "sources": tensors[1][..., :length]}
        arrays = {key: value.float().cpu().numpy() for key, value in out.items()}
        sounds = zip(*(arrays[key] for key in ("sources", "estimates", "mix")), strict=True)
        statuses = [find_silence(*each) for each in sounds]
        scores = self._score(out, batch["info"], statuses, swapped)
        dataset = self.loader.dataset
        for b, info in enumerate(batch["info"]):
            known = {} if statuses[b] else self.fixed.get(info["index"], {}) | scores.get(b, {})
            unscored = None
            if self.bss == "mir_eval" and not statuses[b]:
                unscored = {key: arrays[key][b] for key in (*SOUNDS, "average") if key in arrays}
                unscored |= {"swapped": swapped, "fixed": not known}
            shown = info["index"] < num_vis
            pairs = zip(info["clips"], info["centres"], strict=True) if shown else ()
            yield Mixture(
                index=info["index"],
                clips=[
                    (dataset.clips[number].category, dataset.clips[number].name) for number in info["clips"]
                ],
                loss=float(arrays["loss"][b]) if "loss" in arrays else None,
                status=statuses[b],
                scores=known,
                unscored=unscored,
                view=self._view(arrays, b, info, tensors[0], tensors[2]) if shown else None,
                frames=[dataset.window_pictures(*pair) for pair in pairs],
            )

    @torch.no_grad()
    def _average_features(self):
        """[C] mean image features of all clips' pictures. They are kept: mixtures need them again."""
        dataset, size, known = self.loader.dataset, self.loader.batch_size, {}
        for start in range(0, len(dataset.clips), size):
            pictures = {}
            for number in range(start, min(start + size, len(dataset.clips))):
                with contextlib.suppress(UserError):  # mixtures with this clip are counted as failed
                    pictures[number] = torch.from_numpy(dataset.middle_clip(number))
            if pictures:
                frames = torch.stack(list(pictures.values()))[:, None].to(self.device)
                known |= zip(pictures, self.separator.image_features(frames)[:, 0], strict=True)
        self.features |= known
        return torch.stack(list(known.values())).float().mean(dim=0) if known else None

    def _image_features(self, infos, frames):
        """Image features [B, N, C] of pictures [B, N, 3, T, H, W], computed once for each clip.

        Under DataParallel the pictures themselves: each GPU computes the features of its part.
        """
        if self.model is not self.separator:
            return frames
        numbers = [number for info in infos for number in info["clips"]]
        places = {number: place for place, number in enumerate(numbers) if number not in self.features}
        if places:
            features = self.separator.image_features(frames.flatten(0, 1)[list(places.values()), None])
            self.features |= zip(places, features[:, 0], strict=True)
        return torch.stack([self.features[number] for number in numbers]).unflatten(0, frames.shape[:2])

    def _score(self, out, infos, statuses, swapped):
        """{position in the batch: scores}, silent mixtures left out; without those that `fixed` holds."""
        scores = {}
        for fixed in (False, True) if self.bss == "fast" else ():
            picked = [b for b, info in enumerate(infos) if fixed == (info["index"] not in self.fixed)]
            picked = [b for b in picked if not statuses[b]]
            if picked:
                sounds = [out[key][picked].float() for key in SOUNDS]
                average = out["average"][picked].float() if "average" in out else None
                scores |= zip(picked, score_batch(*sounds, swapped, fixed, average), strict=True)
        return scores

    def _view(self, out, b, info, mix, frames):
        """The row of mixture `b` of a batch on the page, without its videos' frames and scores."""
        dataset, settings = self.loader.dataset, self.separator.settings
        sampling = dataset.sampling
        energy = self._energy(mix[b : b + 1], frames[b : b + 1])
        stills = frames[b, :, :, frames.shape[3] // 2].permute(0, 2, 3, 1).cpu().numpy()
        sources = [
            viz.SourceView(
                clip=dataset.clips[number].name,
                category=dataset.clips[number].category,
                frames=None,
                energy=energy[n],
                still=stills[n],
                mask=out["masks"][b, n],
                true_mask=out["true_masks"][b, n],
                estimate=out["estimates"][b, n],
                true=out["sources"][b, n],
                oracle=out["oracle"][b, n],
                scores={},
            )
            for n, number in enumerate(info["clips"])
        ]
        return viz.MixtureView(
            name=f"{info['index']:04d}",
            mix=out["mix"][b],
            weight=out["weight"][b, 0] if "weight" in out else None,
            freqs=row_frequencies(sampling.aud_rate, settings.stft_frame, settings.log_freq).numpy(),
            rate=sampling.aud_rate,
            fps=sampling.fps,
            hop_seconds=settings.stft_hop / sampling.aud_rate,
            scores={},
            sources=sources,
        )

    def _energy(self, mix, frames):
        """[N, h, w] energy of the sound of each place in the pictures of one mixture."""
        return self.separator.pixel_energy(mix, frames)[0].float().cpu().numpy()


def _join(results, num_failed):
    """Results of all processes in list order, and their number of failed mixtures."""
    parts = distributed.gather((results, num_failed))
    joined = sorted((result for part, _ in parts for result in part), key=lambda result: result.index)
    return joined, sum(count for _, count in parts)


def _summarize(results, num_failed, num_unreadable):
    """The numbers of metrics.json: means over the scored mixtures, counts, statistics of parts.

    num_failed: mixtures skipped because a clip cannot be read; num_unreadable: such clips.
    """
    scored = [(result.clips, result.scores) for result in results if not result.status]
    scores = summarize([scores for _, scores in scored])
    losses = [result.loss for result in results if result.loss is not None]
    return {
        "num_mixtures": len(results) + num_failed,
        "num_failed": num_failed,
        "num_clips_unreadable": num_unreadable,
        "num_silent": sum(bool(result.status) for result in results),
        "num_silent_estimates": sum(result.status == SILENT_ESTIMATE for result in results),
        "loss": float(np.mean(losses)) if losses else None,
        **{key: scores.get(key) for key in (*SCORES, *(key for key in scores if key not in SCORES))},
        **score_statistics(scored),
    }
