"""Django: the page of a request, logins, sessions, a cache, and what changes in tables.

    INSTALLED_APPS = [..., "guado.adapters.django"]
    MIDDLEWARE = [..., "guado.adapters.django.middleware.GuadoMiddleware"]  # behind Authentication
    SESSION_ENGINE = "guado.adapters.django.sessions"
    CACHES = {"default": {"BACKEND": "guado.adapters.django.cache.GuadoCache"}}

Before: the project's settings. After: guado.connection, its store, guado.global_store.
Not here: models; there are none.
"""
