"""Form, upload, streamed export and file download: what real sites do."""

import hashlib
import os
from collections.abc import Iterator

from django import forms
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt

from .models import Entry


class EntryForm(forms.ModelForm):
    """The form on the first page."""

    class Meta:
        model = Entry
        fields = ("name", "text", "attachment")


def book(request: HttpRequest) -> HttpResponse:
    """The book with its form; POST adds an entry."""
    form = EntryForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("book")
    page = {"form": form, "entries": Entry.objects.all()[:50], "server": request.META}
    return render(request, "guestbook/book.html", page, status=400 if form.errors else 200)


def attachment(request: HttpRequest, pk: int) -> FileResponse:
    """An entry's file; Guado sends it by sendfile(2)."""
    entry = get_object_or_404(Entry.objects.exclude(attachment=""), pk=pk)
    name = os.path.basename(entry.attachment.name)
    return FileResponse(entry.attachment.open("rb"), as_attachment=True, filename=name)


def export(request: HttpRequest) -> StreamingHttpResponse:
    """Every entry as CSV, streamed."""

    def lines() -> Iterator[str]:
        yield "id,name,length\r\n"
        for entry in Entry.objects.iterator():
            yield f"{entry.pk},{entry.name},{len(entry.text)}\r\n"

    return StreamingHttpResponse(lines(), content_type="text/csv")


@csrf_exempt
def digest(request: HttpRequest) -> HttpResponseBase:
    """Size and SHA-256 of an uploaded file or body, read in pieces."""
    sums, size = hashlib.sha256(), 0
    source = (
        request.FILES["file"].chunks() if request.FILES else iter(lambda: request.read(65536), b"")
    )
    for piece in source:
        sums.update(piece)
        size += len(piece)
    return JsonResponse({"size": size, "sha256": sums.hexdigest()})
