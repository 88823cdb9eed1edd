/*
 * The bridge's connections to the members: frames out, answers in, and who leads.
 *
 * Only a member that says so itself is taken for the leader; when none is known, or the one that is stays silent, all
 * that can be reached are asked, at growing intervals. The configuration file only says whom to ask first: the members
 * are those that the log names, asked for again whenever a connection or the leader changes. A member keeps its number as
 * long as it is one; a number may be free, members_id is 0 then. What this must not know: what the requests mean, who waits for
 * them, the event loop: the owner watches the descriptors and calls in.
 */
#ifndef RAFT_KV_BRIDGE_MEMBERS_H
#define RAFT_KV_BRIDGE_MEMBERS_H

#include "daemon/config/config.h"
#include "daemon/transport/zmq_socket.h"
#include "kv/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMBERS_NONE (-1)

struct members;

struct members_events {
	/* An answer from a member, other than to this module's own questions. Valid during the call. */
	void (*reply)(void *arg, unsigned member, const struct kv_frame_item *item);
	/* The connection is gone, and what was sent over it will not be answered. */
	void (*lost)(void *arg, unsigned member);
	/* There is a new member, with descriptors to watch. False: it cannot be watched, and is forgotten. Also for those of
	 * the configuration. */
	bool (*opened)(void *arg, unsigned member, int fd, int monitor_fd);
	/* The member's descriptors are about to be closed. */
	void (*closing)(void *arg, unsigned member);
	void *arg;
};

/* The context outlives the members. */
int members_new(const struct config *config, struct zmq_context *context, const struct members_events *events,
		struct members **ret_members) __attribute__((warn_unused_result));
struct members *members_free(struct members *members); /* NULL is fine; returns NULL */

unsigned members_count(const struct members *members);		     /* numbers ever given out; some may be free */
uint64_t members_id(const struct members *members, unsigned member); /* 0: the number is free */
bool members_is_up(const struct members *members, unsigned member);
/* It was sent something a while ago, and nothing has come from it since. */
bool members_is_silent(const struct members *members, unsigned member, uint64_t now_ms);
void members_wake(struct members *members, unsigned member); /* a descriptor was readable */

/* The member to send to now: it leads, is connected and not silent. MEMBERS_NONE: hold what needs one. */
int members_leader(const struct members *members, uint64_t now_ms);
/* The id of the leader last known, 0: none. */
uint64_t members_leader_id(const struct members *members);
/* Changes whenever a leader is found, also the same one anew: everything unanswered is then to be sent again. */
uint64_t members_generation(const struct members *members);
/* A member for a read that may be stale. MEMBERS_NONE: none is connected. */
int members_any(const struct members *members, uint64_t now_ms);
/* The member answered that it does not lead (any more). */
void members_deny(struct members *members, unsigned member, uint64_t now_ms);
/* Nothing has come for a while: asks the member for a sign of life, at most so often. */
void members_poke(struct members *members, unsigned member, uint64_t now_ms);

/* Adds a request to the member's next frame. NULL: the frame is full, send it first; or no memory. */
uint8_t *members_add(struct members *members, unsigned member, uint64_t id, uint8_t type, uint32_t size);
/* Sends what was added, if anything. Negative errno: nothing of it was sent, and all of it is forgotten. */
int members_send(struct members *members, unsigned member, uint64_t now_ms) __attribute__((warn_unused_result));

/* Takes what has arrived at the members that were woken or used since. */
void members_receive(struct members *members, uint64_t now_ms);
/* Asks around when there is need. wanted: somebody waits for a leader. */
void members_tick(struct members *members, uint64_t now_ms, bool wanted);
/* When members_tick wants to be called. */
uint64_t members_due_ms(const struct members *members, uint64_t now_ms, bool wanted);
/* After the last use in a loop turn: true when there is something to receive at once. */
bool members_pending(struct members *members);

/* Time in which a healthy member answers something. */
uint64_t members_silence_ms(const struct members *members);

#endif
