"""Finds instances in Kubernetes: asks the API, follows its changes, reads what objects say.

`client` speaks HTTP, `reflector` lists and watches one kind, `objects` reads what came, and
`mapping` makes instances of it; the last two are pure. Whether an instance takes part is not
decided here.
"""
