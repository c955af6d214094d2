/* Signatures become Hyperscan's database, in a process that does nothing else. */
#ifndef DPDK_SIGNATURES_H
#define DPDK_SIGNATURES_H

/* Read from standard input how many there are, and of each its number, whether case does not matter, its size and its
 * bytes; write the database to standard output. The exit code; what is wrong is said on standard error. */
int signatures_compile(void);

#endif
