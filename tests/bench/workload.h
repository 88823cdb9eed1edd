/*
 * Which operation comes next, on which key, with which value. The same seed gives the same sequence. Keys and values
 * are made of letters and digits only: the line protocol takes them as they are.
 */
#ifndef RAFT_BENCH_WORKLOAD_H
#define RAFT_BENCH_WORKLOAD_H

#include "tests/bench/bench.h"

struct workload {
	const struct bench_options *options;
	uint64_t random[2];
	uint64_t next;			   /* sequential: the next key */
	double zeta_n, zeta_2, alpha, eta; /* zipf */
	uint8_t *text;			   /* values are windows into it */
	size_t text_size;
};

struct workload_op {
	bool get;
	const uint8_t *value; /* put: options->value_size bytes */
	uint64_t key;
};

int workload_init(struct workload *workload, const struct bench_options *options); /* 0 or -ENOMEM */
void workload_fini(struct workload *workload);
void workload_next(struct workload *workload, struct workload_op *ret_op);
void workload_write_key(const struct workload *workload, uint64_t key, uint8_t *buf); /* options->key_size bytes */

#endif
