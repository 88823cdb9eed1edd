/*
 * See raft_script.h.
 */
#include "raft_script.h"
#include "daemon/assert.h"

#include <string.h>

struct raft_entry rc_script_entries[RC_SCRIPT_ENTRIES_MAX];
static uint8_t bytes[RC_SCRIPT_ENTRIES_MAX][RAFT_CONFIG_SIZE_MAX];
static uint64_t value = 1;

void rc_put_config(unsigned i, uint64_t term, const struct raft_config *config)
{
	rc_script_entries[i] = (struct raft_entry){.term = term, .type = RAFT_ENTRY_CONFIG, .data = bytes[i]};
	rc_script_entries[i].size = (uint32_t)raft_config_encode(config, bytes[i]);
}

void rc_put_command(unsigned i, uint64_t term)
{
	rc_script_entries[i] = (struct raft_entry){.term = term, .type = RAFT_ENTRY_COMMAND, .size = 8};
	rc_script_entries[i].data = (const uint8_t *)&value;
}

struct raft_message rc_append(uint64_t from, uint64_t to, uint64_t term, uint64_t prev, uint64_t prev_term, unsigned n)
{
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND, .from = from, .to = to, .term = term};

	m.append.prev_index = prev;
	m.append.prev_term = prev_term;
	m.append.n_entries = n;
	m.append.entries = rc_script_entries;
	return m;
}

struct raft_message rc_vote_request(uint64_t from, uint64_t to, uint64_t term, uint64_t last, uint64_t last_term)
{
	struct raft_message m = {.type = RAFT_MESSAGE_VOTE_REQUEST, .from = from, .to = to, .term = term};

	m.vote_request.last_index = last;
	m.vote_request.last_term = last_term;
	return m;
}

bool rc_is_granted(struct rc_cluster *cluster, const struct raft_message *request)
{
	struct raft_message reply;
	int r = rc_message(cluster, request);

	raft_assert(r == RAFT_OK);
	rc_persist(cluster, request->to);
	raft_assert(rc_take(cluster, request->to, request->from, RAFT_MESSAGE_VOTE_REPLY, &reply));
	return reply.vote_reply.granted;
}

struct raft_config rc_genesis_with(const struct rc_cluster *cluster, uint64_t id, int role)
{
	struct raft_config config = cluster->genesis;
	struct raft_config_member member;

	memset(&member, 0, sizeof(member));
	member.id = id;
	member.incarnation = cluster->nodes[id].incarnation;
	member.role = (enum raft_member_role)role;
	if (role == 0)
		raft_assert(raft_config_remove(&config, id));
	else
		raft_assert(raft_config_set(&config, &member));
	return config;
}
