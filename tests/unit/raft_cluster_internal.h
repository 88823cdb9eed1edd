/*
 * What the files of raft_cluster share; no test includes it.
 */
#ifndef RAFT_KV_TESTS_RAFT_CLUSTER_INTERNAL_H
#define RAFT_KV_TESTS_RAFT_CLUSTER_INTERNAL_H

#include "raft_cluster.h"

#include "daemon/assert.h"

uint64_t rc_between(struct rc_cluster *cluster, uint64_t low, uint64_t high);
void *rc_grow(void *array, size_t n, size_t *capacity, size_t size);
void rc_log_push(struct rc_log *log, const struct rc_entry *entry);
void rc_log_copy(struct rc_log *log, const struct rc_log *other);
bool rc_same_entry(const struct rc_entry *a, const struct rc_entry *b);

/* The log as a snapshot at index leaves it: everything up to there, nothing after. */
void rc_log_reset(struct rc_cluster *cluster, struct rc_log *log, uint64_t index, uint64_t term);

/* The oldest write under way becomes durable, as one atomic unit. */
void rc_apply_write(struct rc_cluster *cluster, struct rc_node *node);

/* Equal configurations have equal numbers, which stand for them in rc_entry.value. */
uint64_t rc_config_number(struct rc_cluster *cluster, const struct raft_config *config);
const struct rc_config *rc_config_by_number(const struct rc_cluster *cluster, uint64_t number);

void rc_fly(struct rc_cluster *cluster, const struct rc_node *node, const struct raft_message *message);

/* After a step, before its messages leave. */
void rc_check_message(const struct rc_cluster *cluster, const struct rc_node *node, const struct raft_message *message);
void rc_check_new_leader(struct rc_cluster *cluster, const struct rc_node *node);
void rc_check_commit(struct rc_cluster *cluster, struct rc_node *node);

#endif
