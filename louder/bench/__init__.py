"""Speed and memory of what Louder computes, each beside its naive twin and beside what one would use instead."""
