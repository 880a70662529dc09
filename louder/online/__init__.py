"""Learning from a stream: windows of the event log, each scored by the model as it was before, then trained on once.

louder.stream("runs/shop", source="events", output="streams/shop")      # louder stream runs/shop --source events -o streams/shop
"""
