"""Tools of this repository: documentation, pictures, the table of faults, comparisons."""
