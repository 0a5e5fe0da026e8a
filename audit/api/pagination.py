"""Pages by cursor: stable while rows are added, cheap at any depth."""

from typing import Any
from uuid import UUID

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request


class Pages(CursorPagination):
    """`?cursor=…&limit=…`; answers `{next, previous, results}`. `ordering` must be unique."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    template = None

    def get_page_size(self, request: Request) -> int:
        """Strict: a limit out of range is an error, not silently another one."""
        given = request.query_params.get("limit")
        if given is None:
            return self.page_size
        digits = given.isascii() and given.isdigit() and len(given) < 10
        if not digits or not 1 <= int(given) <= self.max_page_size:
            raise ValidationError({"limit": [f"Must be a whole number from 1 to {self.max_page_size}."]})
        return int(given)

    def decode_cursor(self, request: Request) -> Any:
        try:
            cursor = super().decode_cursor(request)
        except NotFound:
            raise ValidationError({"cursor": ["Is not a cursor of this list."]}) from None
        if cursor is not None and cursor.position is not None and not self.fits(str(cursor.position)):
            raise ValidationError({"cursor": ["Is not a cursor of this list."]})
        return cursor

    def fits(self, position: str) -> bool:
        """Is `position` a value of the ordering's column?"""
        return "\x00" not in position


class ByTime(Pages):
    """Newest first, by the time in the uuid7 key."""

    ordering = "-id"

    def fits(self, position: str) -> bool:
        try:
            UUID(position)
        except ValueError:
            return False
        return True


class ByName(Pages):
    ordering = "name"


class BySeq(Pages):
    ordering = "seq"
    page_size = 200
    max_page_size = 500

    def fits(self, position: str) -> bool:
        return position.isascii() and position.isdigit() and len(position) < 10
