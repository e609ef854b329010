"""Gunicorn of the shop."""

import multiprocessing

bind = "unix:/run/shop/gunicorn.sock"
wsgi_app = "shop.wsgi:application"
chdir = "/srv/site/src"
workers = 3
worker_class = "gthread"
threads = 4
max_requests = 1000
max_requests_jitter = 50
graceful_timeout = 40
raw_env = ["DJANGO_SETTINGS_MODULE=shop.settings", "TZ=Europe/Rome"]
loglevel = "warning"
errorlog = "-"
preload_app = True
cores = multiprocessing


def post_fork(server, worker):
    """Tells who was born."""
    server.log.info("worker %s", worker.pid)
