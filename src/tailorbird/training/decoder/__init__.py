"""The Llama family by hand: forward and backward over the prefix tree of a batch, every shared token computed once."""
