"""Samples: typed input descriptions, streamed files and iterables, and generated probes."""
