"""The tools that every installation has, one file each."""
