"""GenroPy sites on guado: the register of users, connections and pages, without its daemon.

Before: GenroPy, to which this package stands for `gnr.web.daemon` (an entry point of the group
`gnr.web`, put there by _seam). After: guado's stores and registries. Not here: anything that
pages of a site would call.

The modules with names of GenroPy's are what it imports; what they mean is in _register, and
how Bags are kept in _values.
"""
