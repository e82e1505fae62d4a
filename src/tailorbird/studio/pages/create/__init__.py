"""The wizard that makes a fine-tuning job, a module for each group of steps."""
