"""The one client for OpenAI-compatible endpoints; judges, prompt writers and `engine: server` ask through it.

Start with `client.py` (retries, limits, durable replies). `reply_log.py` is what makes a reply durable, `batch.py` the
providers' batch files, `endpoint.py` an endpoint of our own on loopback.
"""
