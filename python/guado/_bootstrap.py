"""The line that the host starts a worker with: ``PYTHON -u -c LINE``.

It loads the package `guado` from the folder in ``GUADO_PACKAGE`` by its file, so that
neither ``sys.path`` nor the application's environment hold anything of ours, and hands
over to ``guado.worker.boot``. The host passes LINE as it stands; it is written here,
where the tests of the worker use it as well. (Importing this module in a process that
has ``GUADO_LINK`` does the same, for hosts that put the folder on ``sys.path``.)

The environment holds ``GUADO_LINK`` and ``GUADO_PACKAGE`` (protocol/link.md, section 4),
the working directory is the application's.
"""

import os
import sys

LINE = (
    "import importlib.util as u,os,sys;"
    "p=os.path.join(os.environ['GUADO_PACKAGE'],'guado');"
    "s=u.spec_from_file_location('guado',os.path.join(p,'__init__.py'),"
    "submodule_search_locations=[p]);"
    "m=sys.modules['guado']=u.module_from_spec(s);"
    "s.loader.exec_module(m);"
    "from guado.worker.boot import main;"
    "main()"
)

if "GUADO_LINK" in os.environ:
    from guado.worker.boot import main

    if sys.path[:1] == [os.environ.get("GUADO_PACKAGE")]:
        del sys.path[0]
    main()
