"""Upstreams: remote indexes spoken to over HTTP. The only place that opens connections."""
