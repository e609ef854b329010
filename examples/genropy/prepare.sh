#!/usr/bin/env bash
# Makes a GenroPy site in ./site, once: its own HOME and configuration, the site
# gnrdevelop that comes with GenroPy (SQLite), and its database. Nothing of GenroPy is
# changed. DAEMON_PORT is the port of the state daemon (default 40404).
set -euo pipefail
cd "$(dirname "$0")"
[ -e site/env ] && exit 0
python=$PWD/.venv/bin/python
export PATH=$PWD/.venv/bin:$PATH VIRTUAL_ENV=$PWD/.venv PYTHONWARNINGS=ignore
rm -rf site && mkdir -p site/home site/gnr site/projects/local/instances
export HOME=$PWD/site/home GENRO_GNRFOLDER=$PWD/site/gnr GNR_LOCAL_PROJECTS=$PWD/site/projects

package=$("$python" -c 'import os, gnr; print(os.path.dirname(gnr.__file__))')
instance=site/projects/local/instances/gnrdevelop
mkdir -p "$instance/data"
cp -r "$package"/projects/gnrcore/instances/gnrdevelop/{config,root.py} "$instance"
sed -i 's/<wsgi /<wsgi websockets="true" /' "$instance/config/siteconfig.xml"

gnr app initgenropy
sed -i "s/port=\"40404\"/port=\"${DAEMON_PORT:-40404}\"/" site/gnr/environment.xml site/gnr/siteconfig/default.xml
gnr db setup gnrdevelop

cat > site/env <<ENV
HOME=$HOME
GENRO_GNRFOLDER=$GENRO_GNRFOLDER
GNR_LOCAL_PROJECTS=$GNR_LOCAL_PROJECTS
PYTHONWARNINGS=ignore
ENV
