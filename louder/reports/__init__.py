"""A finished run -> one HTML page that opens without a network."""
