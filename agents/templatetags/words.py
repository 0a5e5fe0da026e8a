"""Text of people, models and strangers in templates."""

from django import template

from agents.web import words

register = template.Library()


@register.filter
def readable(text: object) -> str:
    """Hidden characters as marks; escaped like any other text."""
    return words.readable(str(text))
