/*
 * Life on a full disk: foreseen, refused cleanly, over as soon as there is room (DESIGN.md, rule 2).
 *
 * The storage keeps some room free in its last segment for term, vote and what the core appends by itself. An event whose
 * write would not even fit there is not handed to the core: a message counts as lost, a tick and the disk's own
 * confirmations come later. So the member falls silent instead of stopping, and goes on by itself, since the storage asks the
 * disk for room twice a second.
 *
 * Leadership belongs on a member with room, for a leader without any refuses every write: it hands over, to one voter after
 * the other, because it cannot know which of them has room; those that have none do not react. A follower without room
 * leaves the first chance to campaign to others, and campaigns only when nobody leads for a long time: if all disks are
 * full, reads still have a leader.
 *
 * So it is when the log waits for a snapshot and the disk does not get on with that: a leader that refuses every write gives
 * its log's lane nothing to do, so that nobody notices there that the disk hangs. And so when what it appended waits for a
 * file to write it to, while the others commit it, until no more may wait.
 */
#include "replica_internal.h"

#define MORE_THAN_ANY ((uint64_t)1 << 40) /* bytes: no segment has so much room, no event needs it */
#define PATIENCE 4u			  /* election timeouts that a follower without room waits longer than others */
#define HELD_TICK_US 500000u		  /* a tick whose write has no room is tried again after this */
#define HAND_OVER_PAUSE_US 5000000u	  /* between two attempts */

bool replica_has_room(const struct replica *replica, const struct raft_event *event)
{
	if (storage_takes(replica->storage, 0, MORE_THAN_ANY, false))
		return true; /* usually: the disk is not full */
	if (event->type == RAFT_EVENT_MESSAGE && event->message->type == RAFT_MESSAGE_TIMEOUT_NOW)
		return storage_has_room(replica->storage); /* from a leader that has none: another one is of no use */
	struct raft_write_need need = raft_write_need(replica->core, event);
	return !need.any || storage_takes(replica->storage, need.n_entries, need.data_bytes, need.own);
}

static bool is_leader(const struct replica *replica)
{
	struct raft_status status;
	raft_get_own_status(replica->core, &status);
	return status.role == RAFT_LEADER;
}

uint64_t replica_tick_deadline_us(const struct replica *replica)
{
	uint64_t deadline = replica->core_deadline_us;
	if (deadline == UINT64_MAX || storage_has_room(replica->storage) || is_leader(replica))
		return deadline;
	deadline += PATIENCE * replica->options.raft.election_timeout_max_us;
	return deadline > replica->tick_held_us ? deadline : replica->tick_held_us;
}

int replica_tick(struct replica *replica)
{
	struct raft_event event = {.type = RAFT_EVENT_TICK, .now_us = replica->now_us};
	if (replica->now_us < replica_tick_deadline_us(replica))
		return 0;
	if (!replica_has_room(replica, &event)) {
		replica->tick_held_us = replica->now_us + HELD_TICK_US;
		return 0;
	}
	int r = replica_step(replica, &event, NULL, NULL);
	return r < 0 ? r : 0;
}

/* The next voter behind the last one tried that was heard a moment ago, or RAFT_NO_MEMBER. */
static uint64_t next_target(const struct replica *replica, const struct raft_status *status)
{
	for (unsigned k = 0; k < 2 * status->n_peers; k++) {
		const struct raft_progress *peer = &status->peers[k % status->n_peers];
		bool tried = k < status->n_peers && (peer->id <= replica->room.tried || peer->match < status->commit);
		if (peer->voter && !tried &&
		    replica->now_us < peer->last_contact_us + replica->options.raft.election_timeout_min_us)
			return peer->id;
	}
	return RAFT_NO_MEMBER;
}

static int hand_over(struct replica *replica)
{
	struct raft_status status;
	struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .now_us = replica->now_us};
	raft_get_status(replica->core, &status);
	if (status.role != RAFT_LEADER || status.transferring)
		return 0;
	event.transfer_target = next_target(replica, &status);
	if (event.transfer_target == RAFT_NO_MEMBER)
		return 0;
	replica->room.tried = event.transfer_target;
	replica->room.again_us = replica->now_us + HAND_OVER_PAUSE_US;
	int r = replica_step(replica, &event, NULL, NULL);
	return r < 0 ? r : 0;
}

static uint64_t written_bytes(const struct replica *replica)
{
	struct storage_stats stats;
	storage_get_stats(replica->storage, &stats);
	return stats.flushed_bytes;
}

void replica_note_refusal(struct replica *replica)
{
	struct replica_room *room = &replica->room;
	if (room->refused)
		return;
	room->refused = true;
	room->refused_us = replica->now_us;
	room->written_bytes = written_bytes(replica);
}

/* Since a proposal was refused the disk has written nothing of what waits for it, for an election timeout. A record of it is enough:
 * one write of the core may be many, and is durable with the last. */
static bool queue_waits_in_vain(struct replica *replica)
{
	struct replica_room *room = &replica->room;
	struct raft_status status;
	if (!room->refused)
		return false;
	raft_get_own_status(replica->core, &status);
	if (written_bytes(replica) != room->written_bytes || status.durable_index == status.last_index)
		room->refused = false;
	return room->refused && replica->now_us - room->refused_us > replica->options.raft.election_timeout_max_us;
}

int replica_tend_room(struct replica *replica)
{
	bool full = !storage_has_room(replica->storage);
	if (full != replica->room.full) {
		replica->room.full = full;
		if (full)
			replica_log(
				replica, 3, "disk-full",
				"no room for the log: this member accepts no new entries until there is; make room");
		else
			replica_log(replica, 5, "disk-has-room", "there is room for the log again");
	}
	bool refuses = full || replica_log_waits_in_vain(replica) || queue_waits_in_vain(replica);
	return refuses && replica->now_us >= replica->room.again_us ? hand_over(replica) : 0;
}
