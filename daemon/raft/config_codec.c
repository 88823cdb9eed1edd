/*
 * Configurations as values and as bytes; see config_codec.h.
 */
#include "config_codec.h"
#include "../assert.h"

#include <string.h>

/* Only a level above the first bears version 2: until a cluster is raised, programs without levels can read it. */
#define CONFIG_VERSION_1 1u
#define CONFIG_VERSION 2u

/* The header. Version and level keep their places in every version to come. */
enum { AT_VERSION = 0, AT_N_MEMBERS = 1, AT_LEVEL = 2, AT_ZERO = 3 };

static bool is_role(unsigned role)
{
	return role == RAFT_MEMBER_VOTER || role == RAFT_MEMBER_LEARNER || role == RAFT_MEMBER_JOINING;
}

static const char *member_problem(const struct raft_config_member *member)
{
	if (member->id == 0)
		return "a member has id 0";
	if (!is_role((unsigned)member->role))
		return "a member has no known role";
	if (!memchr(member->peer_endpoint, 0, sizeof(member->peer_endpoint)) ||
	    !memchr(member->client_endpoint, 0, sizeof(member->client_endpoint)))
		return "an endpoint is too long";
	return NULL;
}

const char *raft_config_problem(const struct raft_config *config)
{
	unsigned n_voters = 0;

	if (config->n_members == 0)
		return "there are no members";
	if (config->n_members > RAFT_MEMBERS_MAX)
		return "there are too many members";
	if (config->level < RAFT_LEVEL_MIN || config->level > RAFT_LEVEL_LIMIT)
		return "there is no such feature level";
	for (unsigned i = 0; i < config->n_members; i++) {
		const char *problem = member_problem(&config->members[i]);

		if (problem)
			return problem;
		if (i > 0 && config->members[i].id <= config->members[i - 1].id)
			return "the members are not in ascending order, or one is there twice";
		n_voters += config->members[i].role == RAFT_MEMBER_VOTER;
	}
	return n_voters == 0 ? "there is no voter" : NULL;
}

const struct raft_config_member *raft_config_find(const struct raft_config *config, uint64_t id)
{
	for (unsigned i = 0; i < config->n_members; i++)
		if (config->members[i].id == id)
			return &config->members[i];
	return NULL;
}

static bool votes(const struct raft_config_member *member)
{
	return member && member->role == RAFT_MEMBER_VOTER;
}

/* An incarnation that was not known becomes known: that is no other data directory. */
static bool same_incarnation(const struct raft_config_member *before, const struct raft_config_member *after)
{
	return before->incarnation == 0 || before->incarnation == after->incarnation;
}

const char *raft_config_step_problem(const struct raft_config *before, const struct raft_config *after)
{
	unsigned n_changed = 0;

	if (after->level < before->level)
		return "the feature level never goes back";
	for (unsigned i = 0; i < before->n_members; i++)
		n_changed += votes(&before->members[i]) && !votes(raft_config_find(after, before->members[i].id));
	for (unsigned i = 0; i < after->n_members; i++) {
		const struct raft_config_member *member = &after->members[i];
		const struct raft_config_member *old = raft_config_find(before, member->id);

		if (!votes(member))
			continue;
		if (!old)
			return "a new voter must be a learner first";
		if (!same_incarnation(old, member))
			return "a voter that lost its data directory must be a learner first";
		n_changed += !votes(old);
	}
	return n_changed > 1 ? "only one voter may be added or removed at a time" : NULL;
}

bool raft_config_set(struct raft_config *config, const struct raft_config_member *member)
{
	unsigned at = 0;

	while (at < config->n_members && config->members[at].id < member->id)
		at++;
	if (at == config->n_members || config->members[at].id != member->id) {
		if (config->n_members >= RAFT_MEMBERS_MAX)
			return false;
		memmove(config->members + at + 1, config->members + at,
			(config->n_members - at) * sizeof(*config->members));
		config->n_members++;
	}
	config->members[at] = *member;
	return true;
}

bool raft_config_remove(struct raft_config *config, uint64_t id)
{
	const struct raft_config_member *member = raft_config_find(config, id);
	size_t at;

	if (!member)
		return false;
	at = (size_t)(member - config->members);
	config->n_members--;
	memmove(config->members + at, config->members + at + 1, (config->n_members - at) * sizeof(*config->members));
	memset(config->members + config->n_members, 0, sizeof(*config->members));
	return true;
}

/* Bytes ------------------------------------------------------------------------------------------------ */

static void put64(uint8_t *at, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

size_t raft_config_encode(const struct raft_config *config, uint8_t *buf)
{
	uint8_t *at = buf + RAFT_CONFIG_HEADER_SIZE;

	raft_assert(!raft_config_problem(config));
	bool first = config->level == RAFT_LEVEL_MIN;
	buf[AT_VERSION] = first ? CONFIG_VERSION_1 : CONFIG_VERSION;
	buf[AT_N_MEMBERS] = (uint8_t)config->n_members;
	buf[AT_LEVEL] = first ? 0 : (uint8_t)config->level;
	buf[AT_ZERO] = 0;
	for (unsigned i = 0; i < config->n_members; i++) {
		const struct raft_config_member *member = &config->members[i];
		size_t peer_len = strlen(member->peer_endpoint);
		size_t client_len = strlen(member->client_endpoint);

		put64(at, member->id);
		put64(at + 8, member->incarnation);
		at[16] = (uint8_t)member->role;
		at[17] = (uint8_t)peer_len;
		at[18] = (uint8_t)client_len;
		at[19] = 0;
		at += RAFT_CONFIG_MEMBER_SIZE;
		memcpy(at, member->peer_endpoint, peer_len);
		memcpy(at + peer_len, member->client_endpoint, client_len);
		at += peer_len + client_len;
	}
	raft_assert((size_t)(at - buf) <= RAFT_CONFIG_SIZE_MAX);
	return (size_t)(at - buf);
}

/* One member; returns the bytes it took, 0 when these are no member's. *ret is zeroed. */
static size_t decode_member(const uint8_t *at, size_t left, struct raft_config_member *ret)
{
	size_t peer_len, client_len;

	if (left < RAFT_CONFIG_MEMBER_SIZE || at[19] != 0)
		return 0;
	ret->id = get64(at);
	ret->incarnation = get64(at + 8);
	if (!is_role(at[16]))
		return 0;
	ret->role = (enum raft_member_role)at[16];
	peer_len = at[17];
	client_len = at[18];
	if (peer_len > RAFT_ENDPOINT_MAX || client_len > RAFT_ENDPOINT_MAX)
		return 0;
	at += RAFT_CONFIG_MEMBER_SIZE;
	left -= RAFT_CONFIG_MEMBER_SIZE;
	if (left < peer_len + client_len)
		return 0;
	if ((peer_len > 0 && memchr(at, 0, peer_len)) || (client_len > 0 && memchr(at + peer_len, 0, client_len)))
		return 0; /* it would be encoded in another way */
	memcpy(ret->peer_endpoint, at, peer_len);
	memcpy(ret->client_endpoint, at + peer_len, client_len);
	return RAFT_CONFIG_MEMBER_SIZE + peer_len + client_len;
}

/* Version 1 has a zero where the level is. */
static bool header_is_known(const uint8_t *bytes)
{
	bool first = bytes[AT_VERSION] == CONFIG_VERSION_1;

	return bytes[AT_VERSION] > 0 && bytes[AT_N_MEMBERS] <= RAFT_MEMBERS_MAX && bytes[AT_ZERO] == 0 &&
	       (first ? bytes[AT_LEVEL] == 0 : bytes[AT_LEVEL] > RAFT_LEVEL_MIN);
}

unsigned raft_config_level(const uint8_t *bytes, size_t len)
{
	if (len < RAFT_CONFIG_HEADER_SIZE || bytes[AT_VERSION] == 0)
		return 0;
	return bytes[AT_VERSION] == CONFIG_VERSION_1 ? RAFT_LEVEL_MIN : bytes[AT_LEVEL];
}

int raft_config_decode(const uint8_t *bytes, size_t len, struct raft_config *ret_config)
{
	struct raft_config config;
	size_t at = RAFT_CONFIG_HEADER_SIZE;

	memset(&config, 0, sizeof(config));
	if (len < RAFT_CONFIG_HEADER_SIZE)
		return RAFT_CONFIG_E_FORMAT;
	if (bytes[AT_VERSION] > CONFIG_VERSION)
		return RAFT_CONFIG_E_VERSION;
	if (!header_is_known(bytes))
		return RAFT_CONFIG_E_FORMAT;
	for (unsigned i = 0; i < bytes[AT_N_MEMBERS]; i++) {
		size_t n = decode_member(bytes + at, len - at, &config.members[i]);

		if (n == 0)
			return RAFT_CONFIG_E_FORMAT;
		at += n;
	}
	if (at != len)
		return RAFT_CONFIG_E_FORMAT;
	config.n_members = bytes[AT_N_MEMBERS];
	config.level = raft_config_level(bytes, len);
	if (raft_config_problem(&config))
		return RAFT_CONFIG_E_INVALID;
	/* The whole struct, padding included, so that equal bytes give equal memory. */
	memcpy(ret_config, &config, sizeof(config));
	return RAFT_CONFIG_OK;
}
