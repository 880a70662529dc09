"""A log -> whether a generative recommender is worth it for that log: what `louder try` finds, as plain numbers.

split.py     what is held out: by time, where enough people come back
systems.py   popularity and item-kNN at their best, and trained runs: one rank a user each
present.py   the lists that were shown, as one system more
findings.py  what is odd about the log, and what to type
examples.py  a few users, with reasons
verdict.py   one answer, from the numbers alone
trial.py     all of it, in a number of minutes
"""
