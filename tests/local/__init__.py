"""The local AWS: two public emulators, a file of corrections, a simulated host, and the demo.

It starts and ends processes on this machine only, on the loopback address only. It never speaks to AWS.
"""
