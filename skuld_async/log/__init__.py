"""The log: what a run did, as data; and the verbs that write one and go on from one."""
