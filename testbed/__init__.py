"""Working fakes and real processes for the demo, the tests and the benchmarks.

The product never imports this package.
"""
