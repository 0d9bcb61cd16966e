"""What is done to a contribution before it leaves, and what that has cost: clip, noise, accountant, ledger."""
