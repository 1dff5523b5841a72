"""Ranks in which methods share a place that the data cannot tell apart."""

from collections.abc import Collection, Mapping


def shared_ranks(means: Mapping[str, float], significant: Collection[frozenset[str]]) -> list[int]:
    """Ranks of methods that share the place of the best one that they are not worse than.

    From the best mean down, a method shares the rank of the leader of its group unless it is
    significantly worse than that leader; then it opens the next group, at its own position, as its
    leader. So two methods of one group were each compared with its leader, not with each other,
    and a method below a group may still be indistinguishable from some of its members: a list
    cannot show both, the table of pairs does.

    Args:
        means: mean score by method.
        significant: pairs that differ significantly, after Holm's correction.

    Returns:
        Ranks from 1, in the order of means from the best (equal means by name).
    """
    order = sorted(means, key=lambda name: (-means[name], name))
    ranks: list[int] = []
    leader = ""
    for position, name in enumerate(order, start=1):
        if not ranks or frozenset((leader, name)) in significant:
            leader = name
            ranks.append(position)
        else:
            ranks.append(ranks[-1])
    return ranks
