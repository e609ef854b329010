"""The ASGI callable of the same site."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")

application = get_asgi_application()
