"""What a guest leaves."""

from django.db import models


class Entry(models.Model):
    """One line in the book."""

    name = models.CharField(max_length=80)
    text = models.TextField(max_length=2000)
    attachment = models.FileField(upload_to="attachments/", blank=True)
    written = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "entries"
        ordering = ("-written", "-id")

    def __str__(self) -> str:
        return f"{self.name}: {self.text[:40]}"
