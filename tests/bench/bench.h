/*
 * raft-bench: a closed-loop load generator of one thread that costs as little as it can, because it shares the machine
 * with what it measures. What it must not know: how the cluster works inside.
 *
 * main.c reads the options and prints, load.c is the loop over the connections, workload.c chooses keys and values,
 * line_protocol.c and etcd_protocol.c turn operations into bytes and replies into results, histogram.c keeps latencies,
 * cpu.c asks the kernel what processes consumed, disk.c measures the disk alone.
 */
#ifndef RAFT_BENCH_H
#define RAFT_BENCH_H

#include "tests/bench/histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_KEY_SIZE_MIN 8u
#define BENCH_KEY_SIZE_MAX 1024u
#define BENCH_VALUE_SIZE_MAX (1024u * 1024u)
#define BENCH_CONNECTIONS_MAX 20000u
#define BENCH_DEPTH_MAX 4096u
#define BENCH_GROUPS_MAX 8u
#define BENCH_GROUP_PIDS_MAX 64u
#define BENCH_ERROR_TEXT_MAX 160u

enum bench_distribution { BENCH_UNIFORM, BENCH_ZIPF, BENCH_SEQUENTIAL };

/* Processes whose consumption is reported as one figure. */
struct bench_group {
	char name[32];
	unsigned n_pids;
	int pids[BENCH_GROUP_PIDS_MAX];
};

struct bench_options {
	const char *socket; /* path of the bridge's socket, or NULL */
	const char *etcd;   /* host:port of etcd, or NULL */
	unsigned connections;
	unsigned depth;
	unsigned get_percent;
	size_t key_size;
	size_t value_size;
	uint64_t keys;
	enum bench_distribution distribution;
	double zipf_theta;
	double duration_s; /* of the measurement; 0: until ops are done */
	uint64_t ops;	   /* 0: until the time is over */
	double warmup_s;
	uint64_t seed;
	unsigned n_groups;
	struct bench_group groups[BENCH_GROUPS_MAX];
	const char *disk; /* directory: measure the disk and nothing else */
	size_t disk_block;
	bool json;
};

/* What one run found. Only `total_…` include the warm-up. */
struct bench_result {
	double seconds;
	uint64_t puts, gets;
	uint64_t not_found; /* of the gets */
	uint64_t errors;    /* replies that are neither success nor not-found; not in the latencies */
	char first_error[BENCH_ERROR_TEXT_MAX];
	uint64_t unanswered; /* when the run was over and had waited for the rest */
	struct histogram put_ns, get_ns, all_ns;
	double cpu_us_own;
	double cpu_us[BENCH_GROUPS_MAX];
	uint64_t total_ops;
	double total_seconds;
};

/* Runs the load. 0, or 1 after saying on stderr why it could not. */
int bench_run(const struct bench_options *options, struct bench_result *ret_result);

/* Overwrites blocks of a recycled file, one fdatasync each. The same. */
int bench_disk(const struct bench_options *options, struct bench_result *ret_result);

uint64_t bench_now_ns(void);

/* CPU time of a process so far, all its threads, in microseconds; -1 when there is no such process. */
double bench_cpu_us(int pid);

#endif
