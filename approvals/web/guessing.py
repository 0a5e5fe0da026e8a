"""Bounds on guessing links: by address, and in all. A token has 256 bits, so this spares the server, not the secret."""

from django.http import HttpRequest

from approvals import rates

WINDOW_S = 60
OF_ADDRESS = 20
IN_ALL = 600  # then only who is signed in still follows links: a flood of guesses locks nobody out for good


def too_many(request: HttpRequest) -> int:
    """Seconds to wait, 0: go on."""
    mine = rates.seen(_address(request))
    if mine.count >= OF_ADDRESS:
        return mine.left_s
    everybody = rates.seen("links")
    if everybody.count >= IN_ALL and not request.user.is_authenticated:
        return everybody.left_s
    return 0


def wrong(request: HttpRequest) -> None:
    """Counts a link that leads nowhere."""
    rates.hit(_address(request), window_s=WINDOW_S)
    rates.hit("links", window_s=WINDOW_S)


def _address(request: HttpRequest) -> str:
    """That of the connection: headers can be made up."""
    return f"links:{request.META.get('REMOTE_ADDR', '')}"
