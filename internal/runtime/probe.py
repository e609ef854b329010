# What an interpreter is, as one line of JSON. It runs on any Python, however old, so
# that the host can say what is wrong with it.
import json
import os
import sys
import sysconfig

implementation = getattr(sys, "implementation", None)
include = sysconfig.get_paths().get("include", "")
print(
    json.dumps(
        {
            "executable": sys.executable,
            "implementation": implementation.name if implementation else "python",
            "version": list(sys.version_info[:3]),
            "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            "platform": sysconfig.get_platform(),
            "abi": sysconfig.get_config_var("SOABI") or "",
            "include": include,
            "headers": os.path.exists(os.path.join(include, "Python.h")),
        }
    )
)
