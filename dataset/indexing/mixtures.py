"""Draw fixed mixtures for evaluation: evenly spread over different categories, or within one."""

import heapq
from collections import Counter, defaultdict
from itertools import combinations, islice

from dataset.indexing.split import draw

MAX_TRIES = 1000  # mixtures of clips that share labels, in a row, before a combination of categories is left


def draw_mixtures(clips, num_mix, num_mixtures, seed, table=None):
    """Draw at most `num_mixtures` distinct tuples of `num_mix` clips of different categories and videos.

    table: labels of clips, as in `dataset.indexing.labels.read_labels`: a mixture's clips share none.

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
    rounds = [_mixtures([groups[name] for name in names], used, table or {}) for names in drawn]
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


def _mixtures(groups, used, table):
    """Yield all mixtures of one clip per group; clips least used here come first, then least `used`."""
    used_here, drawn = Counter(), set()
    while True:
        ranked = [sorted(group, key=lambda clip: (used_here[clip], used[clip])) for group in groups]
        for mixture in islice(_by_use(ranked, used_here), len(drawn) + MAX_TRIES if table else None):
            if mixture not in drawn and _may_mix(mixture, table):
                break
        else:
            return
        drawn.add(mixture)
        used_here.update(mixture)
        yield mixture


def _may_mix(mixture, table):
    """Whether the clips are of different videos, and have no label of the table in common."""
    labels = [label for clip in mixture if clip.id in table for label in set(table[clip.id].labels)]
    return len({clip.video for clip in mixture}) == len(mixture) and len(set(labels)) == len(labels)


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


def draw_same(clips, num_mix, seed):
    """Draw distinct tuples of `num_mix` different videos of one category: at most one per clip of the list.

    Each clip, in the order of the list, is mixed with clips drawn at random; see `without_partners` for those
    that have too few. Depends on the seed and the clips' names.
    """
    groups = defaultdict(list)
    for clip in clips:
        groups[clip.category].append(clip)
    drawn = {}  # as a set in the order of drawing
    for clip in clips:
        others = sorted(groups[clip.category], key=lambda other: draw(f"{clip.name}/{other.name}", seed))
        for rest in combinations([other for other in others if other.video != clip.video], num_mix - 1):
            mixture = (clip, *rest)
            if len({one.video for one in mixture}) == num_mix and frozenset(mixture) not in drawn:
                drawn[frozenset(mixture)] = mixture
                break
    return list(drawn.values())


def without_partners(clips, num_mix):
    """The clips of categories with fewer than `num_mix` videos: `draw_same` leaves them out."""
    videos = defaultdict(set)
    for clip in clips:
        videos[clip.category].add(clip.video)
    return [clip for clip in clips if len(videos[clip.category]) < num_mix]
