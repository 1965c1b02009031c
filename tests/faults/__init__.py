"""The fault matrix: one test, or a few, for each row, named `test_row_NN_` and a sentence.

`docs/reference/faults.md` lists the rows. After every test the sidecar is looked at:
no connection, call or task may be left behind, and no fault may have been a bug.
"""
