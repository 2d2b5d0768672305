"""Every interleaving of bounded worlds of the real machines.

`bounds` has the worlds, `search` looks through one. `folded` and `rebased` are the machines,
`fingerprint` tells states apart, `judge` judges them, `graph` and `healing` show that all of them
come to rest.

Spec: the verification page, "Explorer".
"""
