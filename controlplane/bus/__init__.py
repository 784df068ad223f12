"""What joins replicas: everyone hears every report, one decides, all serve the same plan.

`LocalBus` is one process by itself; `NatsBus` joins several over NATS JetStream. Who leads is
decided by `lease`, what reports look like on the way by `codec`; both are pure.
"""
