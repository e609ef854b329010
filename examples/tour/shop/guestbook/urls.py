"""Addresses of the guestbook."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.book, name="book"),
    path("attachment/<int:pk>", views.attachment, name="attachment"),
    path("export.csv", views.export, name="export"),
    path("digest", views.digest, name="digest"),
]
