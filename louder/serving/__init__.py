"""The HTTP service: `louder serve RUN`. Histories are in a store, models answer, requests that arrive together share a pass."""
