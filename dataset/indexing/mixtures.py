"""Draw fixed mixtures of clips of different categories, evenly spread, for evaluation."""

import heapq
from collections import Counter, defaultdict
from itertools import combinations

from dataset.indexing.split import draw


def draw_mixtures(clips, num_mix, num_mixtures, seed):
    """Draw at most `num_mixtures` distinct tuples of `num_mix` clips of different categories and ids.

    Each round takes one mixture from every combination of categories that has any left, in random order, so
    that the first rows are a fair sample. If there are more combinations than mixtures, a random subset is
    used. Depends on the seed and the clips' names, not on the order of `clips`.
    """
    groups = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: (draw(clip.name, seed), clip)):
        groups[clip.category].append(clip)
    used = Counter()  # clip -> number of uses
    drawn = heapq.nsmallest(
        num_mixtures, combinations(sorted(groups), num_mix), key=lambda names: draw("/".join(names), seed)
    )
    rounds = [_mixtures([groups[name] for name in names], used) for names in drawn]
    mixtures = []
    while rounds:
        for source in list(rounds):
            if len(mixtures) == num_mixtures:
                return mixtures
            mixture = next(source, None)
            if mixture:
                mixtures.append(mixture)
                used.update(mixture)
            else:
                rounds.remove(source)
    return mixtures


def _mixtures(groups, used):
    """Yield all mixtures of one clip per group; clips least used here come first, then least `used`."""
    used_here, drawn = Counter(), set()
    while True:
        ranked = [sorted(group, key=lambda clip: (used_here[clip], used[clip])) for group in groups]
        for mixture in _by_use(ranked, used_here):
            if mixture not in drawn and len({clip.id for clip in mixture}) == len(mixture):
                break
        else:
            return
        drawn.add(mixture)
        used_here.update(mixture)
        yield mixture


def _by_use(ranked, used_here):
    """Yield all mixtures of one clip per list in `ranked`, those of the least used clips first."""

    def entry(ranks):
        mixture = tuple(clips[rank] for clips, rank in zip(ranked, ranks, strict=True))
        return sum(used_here[clip] for clip in mixture), sum(ranks), ranks, mixture

    heap = [entry((0,) * len(ranked))]
    seen = {heap[0][2]}
    while heap:
        *_, ranks, mixture = heapq.heappop(heap)
        yield mixture
        for n, rank in enumerate(ranks):
            following = (*ranks[:n], rank + 1, *ranks[n + 1 :])
            if rank + 1 < len(ranked[n]) and following not in seen:
                seen.add(following)
                heapq.heappush(heap, entry(following))
