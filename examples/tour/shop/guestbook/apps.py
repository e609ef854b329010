"""The guestbook application."""

from django.apps import AppConfig


class GuestbookConfig(AppConfig):
    """Entries that visitors leave, with an attachment if they like."""

    name = "guestbook"
