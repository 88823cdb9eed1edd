/*
 * What is checked after every step of every member; see raft_cluster.h.
 */
#include "raft_cluster_internal.h"

static bool disk_holds(const struct rc_node *node, uint64_t incarnation, uint64_t index, const struct rc_entry *entry)
{
	const struct rc_log *disk = &node->disk;

	if (incarnation != 0 && incarnation == node->incarnation - 1)
		disk = &node->lost;
	else if (incarnation != 0 && incarnation != node->incarnation)
		return false;
	return index <= disk->n && rc_same_entry(&disk->entries[index - 1], entry);
}

/* Dissertation, section 3.8: what leaves rests on nothing that a crash could take back. */
void rc_check_message(const struct rc_cluster *cluster, const struct rc_node *node, const struct raft_message *message)
{
	const struct rc_node *to = &cluster->nodes[message->to <= RC_NODES_MAX ? message->to : 0]; /* 0: made up */
	const struct raft_hard_state *disk = &node->disk_hard;
	bool asks_pre = message->type == RAFT_MESSAGE_VOTE_REQUEST && message->vote_request.pre_vote;

	raft_assert(message->from == node->id && message->to != node->id);
	raft_assert(message->term - (asks_pre ? 1 : 0) <= disk->term); /* the term is durable */
	raft_assert(message->term == node->status.hard_state.term + (asks_pre ? 1 : 0));
	if (message->type == RAFT_MESSAGE_VOTE_REQUEST && !asks_pre)
		raft_assert(disk->vote == node->id); /* its own vote is durable */
	if (message->type == RAFT_MESSAGE_VOTE_REPLY && message->vote_reply.granted && !message->vote_reply.pre_vote) {
		raft_assert(disk->vote == message->to); /* the vote is durable */
		raft_assert(message->vote_reply.request_term == message->term);
	}
	if (message->type == RAFT_MESSAGE_APPEND_REPLY && !message->append_reply.rejected) {
		raft_assert(message->append_reply.match <= node->disk.n); /* the entries are durable */
		for (uint64_t i = message->append_reply.match;
		     !cluster->made_up && i > 0 && i + 64 > message->append_reply.match; i--) {
			raft_assert(rc_same_entry(&node->disk.entries[i - 1], &node->log.entries[i - 1]));
			/* … and they are the leader's */
			if (!cluster->scripted && to->core && to->status.role == RAFT_LEADER &&
			    to->status.hard_state.term == message->term)
				raft_assert(i <= to->log.n &&
					    rc_same_entry(&node->log.entries[i - 1], &to->log.entries[i - 1]));
		}
	}
	if (message->type == RAFT_MESSAGE_APPEND)
		raft_assert(node->status.role == RAFT_LEADER);
}

void rc_check_new_leader(struct rc_cluster *cluster, const struct rc_node *node)
{
	uint64_t term = node->status.hard_state.term;
	size_t old = cluster->leaders_capacity;

	cluster->leaders = rc_grow(cluster->leaders, (size_t)term, &cluster->leaders_capacity, sizeof(uint64_t));
	for (size_t i = old; i < cluster->leaders_capacity; i++)
		cluster->leaders[i] = 0;
	raft_assert(cluster->leaders[term] == 0 || cluster->leaders[term] == node->id); /* Election Safety */
	if (cluster->leaders[term] == node->id)
		return;
	cluster->leaders[term] = node->id;
	if (cluster->made_up)
		return;
	/* Leader Completeness: what was committed in earlier terms. A slow candidate may win after a newer leader committed
	 * more. */
	for (size_t i = 0; i < cluster->committed.n && cluster->committed.entries[i].committed_in < term; i++)
		raft_assert(i < node->log.n && rc_same_entry(&node->log.entries[i], &cluster->committed.entries[i]));
}

/* What another data directory of the same member holds does not count; what the one before held when it was lost does: an
 * acknowledgement of it may have been under way, and one lost disk at a time leaves the others of the quorum. */
static bool quorum_holds(const struct rc_cluster *cluster, const struct raft_config *config, uint64_t index,
			 const struct rc_entry *entry)
{
	unsigned voters = 0;
	unsigned holders = 0;

	raft_assert(config);
	for (unsigned i = 0; i < config->n_members; i++) {
		const struct raft_config_member *member = &config->members[i];
		const struct rc_node *node = &cluster->nodes[member->id];

		if (member->role != RAFT_MEMBER_VOTER)
			continue;
		voters++;
		holders += disk_holds(node, member->incarnation, index, entry);
	}
	return holders >= voters / 2 + 1;
}

/* By the configuration in force at the leader: if the step changed it, by the one before or the one after. */
static bool may_commit(const struct rc_cluster *cluster, const struct rc_node *leader, uint64_t index,
		       const struct rc_entry *entry)
{
	uint64_t config_index, before_index;
	const struct raft_config *config = raft_config_at(leader->core, leader->status.last_index, &config_index);

	if (quorum_holds(cluster, config, index, entry))
		return true;
	if (!leader->last.write.config)
		return false;
	config = raft_config_at(leader->core, config_index - 1, &before_index);
	return quorum_holds(cluster, config, index, entry);
}

/* State Machine Safety, and that a quorum's disks hold whatever is committed for the first time. */
void rc_check_commit(struct rc_cluster *cluster, struct rc_node *node)
{
	uint64_t commit = node->status.commit;

	raft_assert(commit >= node->commit && commit <= node->log.n);
	for (uint64_t i = node->commit + 1; !cluster->made_up && i <= commit && i <= cluster->committed.n; i++)
		raft_assert(rc_same_entry(&node->log.entries[i - 1], &cluster->committed.entries[i - 1]));
	if (commit > cluster->committed.n) {
		const struct rc_entry *entry = &node->log.entries[commit - 1];

		/* A leader that its own change removed follows from the moment it is committed. */
		raft_assert(cluster->scripted || node->status.role == RAFT_LEADER || !node->status.self_voter);
		raft_assert(cluster->scripted || entry->term == node->status.hard_state.term);
		raft_assert(cluster->scripted || may_commit(cluster, node, commit, entry));
		while (cluster->committed.n < commit) {
			struct rc_entry copy = node->log.entries[cluster->committed.n];

			copy.committed_in = node->status.hard_state.term;
			rc_log_push(&cluster->committed, &copy);
		}
	}
	node->commit = commit;
}

void rc_check_logs(struct rc_cluster *cluster)
{
	for (uint64_t a = 1; a <= cluster->n_nodes; a++) {
		for (uint64_t b = a + 1; b <= cluster->n_nodes; b++) {
			const struct rc_log *x = &cluster->nodes[a].log;
			const struct rc_log *y = &cluster->nodes[b].log;
			size_t n = x->n < y->n ? x->n : y->n;
			bool equal = false;

			/* Log Matching: below an index with equal terms everything is equal. */
			for (size_t i = n; i > 0; i--) {
				equal |= x->entries[i - 1].term == y->entries[i - 1].term;
				raft_assert(!equal || rc_same_entry(&x->entries[i - 1], &y->entries[i - 1]));
			}
		}
	}
}
