"""Each machine alone, against a peer that may do anything at any moment.

`client` and `gateway` run one; `runs` is what a run gives. The rest is what runs are made of: what
peers may send, and what the machine must then do, by the specification said a second time.

Spec: the verification page, "Each machine against any peer".
"""
