"""Signing in: passwords, the company's accounts (OpenID Connect), second factors. What django-allauth does, bounded and
recorded as the rest is."""
