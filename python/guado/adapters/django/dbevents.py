"""Changes of models, told when their transaction has committed.

    GUADO_DBEVENTS = ["shop.invoice", "shop.order"]          # or {"shop.invoice": ["total"]}

Before: ``post_save`` and ``post_delete`` of the models that the settings name. After:
guado.dbevent, by the label of the model: ``page.subscribe_table("shop.invoice")``. Not here:
what goes past Django's signals (``update()``, ``bulk_create()``, SQL); tell of that yourself.
"""

from __future__ import annotations

import json
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models.signals import post_delete, post_save

import guado


def connect() -> None:
    """Once all models are there. A name that is none is an error of the settings."""
    wanted: Any = getattr(settings, "GUADO_DBEVENTS", ())
    for label in wanted:
        fields = wanted[label] if isinstance(wanted, dict) else None
        for model in _models(label):
            told = _Told(model._meta.label_lower, fields)
            name = f"guado.{told.table}"
            post_save.connect(told.saved, sender=model, weak=False, dispatch_uid=name)
            post_delete.connect(told.deleted, sender=model, weak=False, dispatch_uid=name)


def _models(label: str) -> list[Any]:
    """``shop.invoice``; ``shop.*`` are all of an application."""
    app, _, name = label.partition(".")
    if name == "*":
        return list(apps.get_app_config(app).get_models())
    return [apps.get_model(label)]


class _Told:
    """A model, and what is told of its rows."""

    def __init__(self, table: str, fields: list[str] | None) -> None:
        self.table = table
        self.fields = fields

    def saved(self, instance: Any, created: bool, using: str, raw: bool, **_: Any) -> None:
        if not raw:  # a fixture is being loaded
            self.later("insert" if created else "update", instance, using)

    def deleted(self, instance: Any, using: str, **_: Any) -> None:
        self.later("delete", instance, using)

    def later(self, action: str, instance: Any, using: str) -> None:
        """Behind the commit; not at all when that does not come. An error there is logged:
        the transaction is done."""
        key, row = _plain(instance.pk), None
        if self.fields is not None and action != "delete":
            row = {name: _plain(getattr(instance, name)) for name in self.fields}
        transaction.on_commit(lambda: self.tell(action, key, row), using=using, robust=True)

    def tell(self, action: str, key: Any, row: Any) -> None:
        try:
            guado.dbevent(self.table, action, key, row)
        except guado.PhaseError:
            return  # this server has no events
        except guado.HostError as error:
            if error.code != "no_host":  # a command of manage.py, or another server
                raise


def _plain(value: Any) -> Any:
    """A value as JSON has it, by Django's own rules."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))
