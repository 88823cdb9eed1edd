/*
 * Messages that a test makes up: a leader's appends with configurations and commands, a candidate's requests. One set of
 * entries, which the next message may use again.
 */
#ifndef RAFT_KV_TESTS_RAFT_SCRIPT_H
#define RAFT_KV_TESTS_RAFT_SCRIPT_H

#include "raft_cluster.h"

#define RC_SCRIPT_ENTRIES_MAX 8u

extern struct raft_entry rc_script_entries[RC_SCRIPT_ENTRIES_MAX];

void rc_put_config(unsigned i, uint64_t term, const struct raft_config *config);
void rc_put_command(unsigned i, uint64_t term);

/* With the first n of the entries. */
struct raft_message rc_append(uint64_t from, uint64_t to, uint64_t term, uint64_t prev, uint64_t prev_term, unsigned n);
struct raft_message rc_vote_request(uint64_t from, uint64_t to, uint64_t term, uint64_t last, uint64_t last_term);

/* What the member answers, once its disk is done. */
bool rc_is_granted(struct rc_cluster *cluster, const struct raft_message *request);

/* The genesis with one role changed; 0 removes. */
struct raft_config rc_genesis_with(const struct rc_cluster *cluster, uint64_t id, int role);

#endif
