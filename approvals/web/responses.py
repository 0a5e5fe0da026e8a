"""Headers of pages that show calls and links."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse

View = Callable[..., HttpResponse]


def private(referrer: str) -> Callable[[View], View]:
    """Nothing of the answer is stored anywhere, and where it was linked from stays here.

    referrer: "no-referrer" where the address itself is a secret. Pages with forms take "same-origin", which tells
    other sites as little: with "no-referrer" browsers send `Origin: null` with a form, and the CSRF check refuses it
    (Fetch Standard, "append a request Origin header").
    """

    def wrap(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            response = view(request, *args, **kwargs)
            response["Cache-Control"] = "no-store"
            response["Referrer-Policy"] = referrer
            return response

        return wrapped

    return wrap
