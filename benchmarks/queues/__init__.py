"""The five faults that public benchmarks of job queues put to a system, on ours and on DBOS, by turns."""
