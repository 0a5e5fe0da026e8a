"""The hot path: what happens to most steps, in few statements.

Claims, and settlements that simply go on to the next step, of all threads of a process are taken together in one
transaction (`combine`, `turn`): one statement locks the jobs, one reads the steps, and one writes everything. What is
not plain (`eligible`) is left to the general code beside this package, which stays the reference: `GENERAL` says so.
Both write the same rows; a test compares them.
"""
