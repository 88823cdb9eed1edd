/*
 * What a member tells its operators, filled in from what the replicator and the store say: shared by raftd and by the simulator's
 * members, so that what operators are told is tried where everything fails. Must not know who asked, sockets, clocks or the loop.
 *
 * Threads: all of this belongs to the thread that owns the replicator and the store.
 */
#ifndef RAFT_KV_ANSWERS_H
#define RAFT_KV_ANSWERS_H

#include "daemon/replicator/replicator.h"
#include "kv/admin.h"
#include "kv/request.h"
#include "kv/store.h"

/* What the replicator's status and the store say about a member; everything else is 0, for the caller to add. */
void answers_status(const struct replicator_status *status, const struct kv_store *store,
		    struct kv_member_status *ret_answer);

void answers_membership(const struct replicator_membership *membership, struct kv_membership *ret_answer);

/* `n` beats, at most KV_BEATS_MAX, and their count; the rest of *answer is the caller's. */
void answers_beats(const struct replicator_beat *beats, unsigned n, struct kv_beats *answer);

/* Bytes of a page with these `n` entries, header included; and the page, into so many bytes at `data`. page->count entries are
 * written, the first of which is page->first. */
size_t answers_log_size(const struct raft_entry *entries, uint32_t n);
void answers_log_write(const struct kv_log_page *page, const struct raft_entry *entries, uint8_t *data);

/* A page of the store: first measured, then written, so that no buffer of unknown size is needed. Measuring returns the bytes of the
 * page, header included: at most size_max, or one item and what belongs to it. Writing takes the same snapshot and request, and
 * the page and the size that measuring gave. */
size_t answers_dump_measure(const struct kv_snapshot *snapshot, const struct kv_dump_request *request, size_t size_max,
			    struct kv_dump_page *ret_page);
void answers_dump_write(const struct kv_snapshot *snapshot, const struct kv_dump_request *request,
			const struct kv_dump_page *page, uint8_t *data, size_t size);

#endif
