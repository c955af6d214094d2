"""How sure a count makes one: exact binomial tails, at a level that holds for all questions together."""

from __future__ import annotations

import math
from statistics import NormalDist

FAMILY_WISE = 1e-3
"""Probability of any alarm at all where everything is as agreed."""


def tail(count: int, of: int, share: float) -> float:
    """The probability of `count` or more of `of`, each with probability `share`."""
    if count <= 0:
        return 1.0
    if share <= 0 or count > of:
        return 0.0
    if share >= 1:
        return 1.0
    log, log_not = math.log(share), math.log1p(-share)
    total = 0.0
    for k in range(count, of + 1):
        term = math.exp(_log_ways(of, k) + k * log + (of - k) * log_not)
        total += term
        if k > of * share and term < total * 1e-15:
            break
    return min(total, 1.0)


def too_many(count: int, of: int, share: float, level: float) -> bool:
    """Whether `count` of `of` contradicts a share of `share` at most."""
    return count > of * share and tail(count, of, share) < level


def chance_of_worse(count: int, of: int, other: int, of_other: int) -> float:
    """The probability that `count` or more of `count + other` losses fall on these `of` packets and not
    on the `of_other`, where both fare alike (Fisher's exact test, one-sided)."""
    lost, everyone = count + other, of + of_other

    terms = (
        math.exp(_log_ways(of, k) + _log_ways(of_other, lost - k) - _log_ways(everyone, lost))
        for k in range(max(count, lost - of_other), min(of, lost) + 1)
    )
    return min(1.0, sum(terms))


def packets_until_told(
    share: float, bound: float, rate: float, level: float, missed: float = 1e-3
) -> int:
    """Packets after which a share above the bound is told but for a probability, where only counts tell:
    the least number of watched ones whose test at `level` has the power 1 - missed, over the rate."""

    def told(of: int) -> bool:
        most = next(k for k in range(of + 2) if k > of * bound and tail(k, of, bound) < level)
        return tail(most, of, share) >= 1 - missed

    high = 8
    while not told(high):
        high *= 2
    low = high // 2
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if told(middle) else (middle, high)
    return math.ceil(high / rate)


def packets_until_unfair(
    share: float, common: float, watched: float, rate: float, level: float, missed: float = 1e-3
) -> int:
    """Packets after which it is told, but for a probability, that of those that points do not watch such
    a share is lost beyond what all lose (`common`): two proportions (normal approximation), over the
    rate of the taps."""
    worse, all_of = common + share, common + share * (1 - watched)
    alike = math.sqrt(all_of * (1 - all_of) * (1 / watched + 1 / (1 - watched)))
    apart = math.sqrt(common * (1 - common) / watched + worse * (1 - worse) / (1 - watched))
    normal = NormalDist().inv_cdf
    return math.ceil(((normal(1 - level) * alike + normal(1 - missed) * apart) / share) ** 2 / rate)


def packets_until_seen(cheated: float, rate: float, missed: float = 1e-3) -> int:
    """Packets after which a cheat on a share of them is in the watched ones but for a probability:
    n = ln(1 / missed) / (rate x cheated), for cheats that one watched packet shows."""
    return math.ceil(math.log(1 / missed) / -math.log1p(-min(rate * cheated, 1 - 1e-12)))


def _log_ways(of: int, k: int) -> float:
    """The logarithm of how many ways there are to take k of them."""
    return math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
