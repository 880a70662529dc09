"""A world, a service and a trainer on one machine, by one clock: a demo that one watches."""
