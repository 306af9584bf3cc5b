"""The only place that speaks AMQP: connections, publishing, consuming, link seal, RPC, service lifecycle, logs.

It knows nothing of what a message means: no operation, no store, no client secret.
"""
