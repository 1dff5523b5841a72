"""What is wrong with a set: findings, near-duplicates, a preview."""
