"""Gunicorn of the wiki."""

bind = ["127.0.0.1:4000"]
wsgi_app = "wiki:app"
worker_class = "uvicorn.workers.UvicornWorker"
workers = 2
graceful_timeout = 30
preload_app = True
timeout = 60
reuse_port = True
syslog = True
