"""The schedulers sched-simple, sched-fifo and sched-backfill: one core, three sets of defaults (spec 07, section 3)."""
