/*
 * A configuration: who the members of a cluster are, as a value, and its bytes, which are the data of an entry
 * RAFT_ENTRY_CONFIG and part of every snapshot.
 *
 * Pure functions, total over any bytes and any struct: no input crashes them. README.md in this folder has the
 * byte table.
 *
 * Must not know: the core, and what an endpoint means.
 */
#ifndef RAFT_KV_CONFIG_CODEC_H
#define RAFT_KV_CONFIG_CODEC_H

#include "../entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAFT_ENDPOINT_MAX 200u /* bytes of an endpoint, without the terminating zero */

#define RAFT_CONFIG_HEADER_SIZE 4u
#define RAFT_CONFIG_MEMBER_SIZE 20u /* without the two endpoints */
#define RAFT_CONFIG_SIZE_MAX                                                                                           \
	(RAFT_CONFIG_HEADER_SIZE + RAFT_MEMBERS_MAX * (RAFT_CONFIG_MEMBER_SIZE + 2u * RAFT_ENDPOINT_MAX))

_Static_assert(RAFT_CONFIG_SIZE_MAX <= RAFT_ENTRY_SIZE_MAX, "a configuration is the data of one entry");

enum raft_member_role {
	RAFT_MEMBER_VOTER = 1,	 /* counts for elections and commitment */
	RAFT_MEMBER_LEARNER = 2, /* receives the log and counts for nothing, until an operator says otherwise */
	RAFT_MEMBER_JOINING = 3, /* a learner that the leader makes a voter by itself once it has caught up */
};

struct raft_config_member {
	uint64_t id;				     /* never 0; never given to another machine again */
	uint64_t incarnation;			     /* of its data directory; 0: not known yet */
	enum raft_member_role role;		     /* what it counts for */
	char peer_endpoint[RAFT_ENDPOINT_MAX + 1];   /* where members reach it; opaque here, may be empty */
	char client_endpoint[RAFT_ENDPOINT_MAX + 1]; /* where clients reach it; opaque here, may be empty */
};

/* Valid when raft_config_problem finds nothing: 1 to RAFT_MEMBERS_MAX members in ascending order of id, at least one
 * voter, a level. As a blank member's (nobody has told it yet): n_members is 0. */
struct raft_config {
	unsigned level; /* feature level of the cluster: nothing above it is used, and every member knows it */
	unsigned n_members;
	struct raft_config_member members[RAFT_MEMBERS_MAX];
};

enum raft_config_result {
	RAFT_CONFIG_OK = 0,
	RAFT_CONFIG_E_FORMAT = 1,  /* not the bytes of a configuration: too short, too long, impossible lengths */
	RAFT_CONFIG_E_VERSION = 2, /* in an encoding that this program does not know: raft_config_level tells the level */
	RAFT_CONFIG_E_INVALID = 3, /* well formed, but no valid configuration */
};

/* Why this is no valid configuration, in words for an operator; NULL: it is one. */
const char *raft_config_problem(const struct raft_config *config);

/* Why one configuration must not follow the other directly, in words for an operator; NULL: it may. Both are valid by
 * themselves. At most one voter more or fewer (dissertation, section 4.1: then any two majorities of the two have a
 * member in common), a voter under another incarnation being another voter; a new voter was a learner before, in the same
 * incarnation. Anything else about members that do not vote may change at once. The level never goes back. */
const char *raft_config_step_problem(const struct raft_config *before, const struct raft_config *after);

/* The member, or NULL. */
const struct raft_config_member *raft_config_find(const struct raft_config *config, uint64_t id);

/* Adds the member, or replaces the one with its id. False: there is no room for one more. */
bool raft_config_set(struct raft_config *config, const struct raft_config_member *member)
	__attribute__((warn_unused_result));

/* Removes the member. False: there is none with this id. */
bool raft_config_remove(struct raft_config *config, uint64_t id);

/* Writes a valid configuration into a buffer of RAFT_CONFIG_SIZE_MAX bytes; returns how many were used. Equal
 * configurations have equal bytes. */
size_t raft_config_encode(const struct raft_config *config, uint8_t *buf);

/* The feature level that bytes of a configuration ask for, of any version that has been or will be; 0: they are none. */
unsigned raft_config_level(const uint8_t *bytes, size_t len);

/* Fills *ret_config only with RAFT_CONFIG_OK, and then completely: equal bytes give equal memory. */
int raft_config_decode(const uint8_t *bytes, size_t len, struct raft_config *ret_config)
	__attribute__((warn_unused_result));

#endif
