"""Gunicorn of the shop."""

bind = "127.0.0.1:8000"
workers = 3
threads = 4
worker_class = "gthread"
timeout = 90
keepalive = 5
user = "nobody"
raw_env = ["DATABASE_URL=postgres://shop:secret@127.0.0.1/shop"]
accesslog = "-"
errorlog = "/srv/site/logs/gunicorn-error.log"
worker_tmp_dir = "/dev/shm"
forwarded_allow_ips = "127.0.0.1"
limit_request_line = 8190
max_requests = 5000
reload = False
proc_name = "shop"
