"""Methods that the swarm is compared with: one file each, one small interface (`base.Baseline`)."""
