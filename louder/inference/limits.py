"""What one request may hold, in Python and over HTTP alike. Imports nothing, so that a client needs no torch to know it."""

MAX_CANDIDATES = 16_384  # items to be ranked, or listed in a filter
MOST_VALUES = (
    500  # distinct values of an attribute that are told and that items can be filtered by, so also of one filter
)
