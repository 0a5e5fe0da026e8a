"""What a tier does not hold, and says so: the tests let exactly these pass, and the page about the sandbox lists them."""

_GAPS = (
    # attack, tiers, also where commands have a user of their own, what it is
    ("asking_about", ("ns", "ll"), True, "whether a file is there, its size, times and where a link leads"),
    ("attributes", ("ll",), False, "mode, times and attributes of files of the server's own user"),
)


def gap(attack: str, tier: str, *, own_user: bool) -> str:
    """What may come of this attack in this tier; "" where nothing may. own_user: are commands another user than the
    server?"""
    for name, tiers, always, what in _GAPS:
        if name == attack and tier in tiers and (always or not own_user):
            return what
    return ""
