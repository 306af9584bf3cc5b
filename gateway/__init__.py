"""The gateway.

Admission, the job ledger, upload queues and status. It never sees content and cannot grant authority.
"""
