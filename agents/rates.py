"""Counts that bound guessing and flooding live below, where links are guessed at too."""

from approvals.rates import AWAY_S, Hits, client, forget, hit, seen

__all__ = ["AWAY_S", "Hits", "client", "forget", "hit", "seen"]
