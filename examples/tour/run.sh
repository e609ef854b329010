#!/usr/bin/env bash
# Prepares the tour's Django site (migrations, static files, an admin user) and serves it.
set -euo pipefail
cd "$(dirname "$0")"
tour=$PWD root=$(cd ../.. && pwd)
"$root/tools/setup.sh" tour
python=$root/.cache/tour/bin/python
(
  cd shop
  mkdir -p data
  "$python" manage.py migrate -v 0
  "$python" manage.py collectstatic -v 0 --noinput
  if [ ! -e data/admin-password ]; then
    password=$("$python" -c 'import secrets; print(secrets.token_urlsafe(9))')
    DJANGO_SUPERUSER_PASSWORD=$password "$python" manage.py createsuperuser --noinput \
      --username admin --email admin@example.com >/dev/null
    (umask 077 && printf '%s\n' "$password" > data/admin-password)
  fi
)
echo "Django's admin: user admin, password in examples/tour/shop/data/admin-password"
cd "$root" && go build -o bin/tour ./examples/tour && cd "$tour"
VIRTUAL_ENV=$root/.cache/tour exec "$root/bin/tour" "$@"
