"""The book in Django's admin."""

from django.contrib import admin

from .models import Entry

admin.site.register(Entry, list_display=("name", "text", "written"), search_fields=("name", "text"))
