"""The line that the host starts a worker with: ``PYTHON -u -c LINE``.

It loads the package `guado` from the folder in ``GUADO_PACKAGE`` by its file, so that
neither ``sys.path`` nor the application's environment hold anything of ours, and hands
over to ``guado.worker.boot``. The host passes LINE as it stands (a test holds its copy
equal); it is written here, where the tests of the worker use it as well.

The environment holds ``GUADO_LINK`` and ``GUADO_PACKAGE`` (protocol/link.md, section 4),
the working directory is the application's.
"""

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
