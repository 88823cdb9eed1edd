/*
 * The clients' sessions: what makes a request that arrives twice take effect once.
 *
 * A session remembers the number of the last request that was applied and the replies that the client may still ask
 * for again, those from `acknowledged` on. At most KV_SESSIONS_MAX exist; one more expires the one that was used the
 * longest ago, in the order of the log: no clock decides, so all members expire the same.
 *
 * Knows nothing of keys and values.
 */
#ifndef KV_SESSION_H
#define KV_SESSION_H

#include "kv/ring.h"
#include "kv/store.h"

struct kv_session {
	uint64_t id;			  /* index of the entry that registered it */
	uint64_t last;			  /* sequence number of the last applied request; 0: none yet */
	uint64_t acknowledged;		  /* replies from here to `last` are kept; at most last + 1 */
	uint64_t used;			  /* index of the last entry that named this session */
	uint64_t hash;			  /* this session's part of kv_sessions.hash */
	struct kv_ring *ring;		  /* the kept replies; NULL: none was kept yet */
	struct kv_session *older, *newer; /* by use */
};

struct kv_sessions {
	struct kv_session_slot {
		uint64_t id;
		struct kv_session *session;
	} * slots; /* ascending by id */
	uint32_t count;
	uint32_t capacity;
	struct kv_session *oldest, *newest; /* by use */
	uint64_t hash;			    /* sum over the sessions */
	uint64_t memory;		    /* bytes of the heap */
};

void kv_sessions_init(struct kv_sessions *sessions);
void kv_sessions_fini(struct kv_sessions *sessions);

/* Opens a session whose id is the index, greater than every index before. */
void kv_sessions_register(struct kv_sessions *sessions, uint64_t index);

/* Decides on a request. True: it is the next one of the session and is to be applied now; kv_sessions_complete must
 * follow with its reply. False: *ret_reply is the answer and nothing is to be applied. Either way the session counts
 * as used at the index, and replies below `acknowledged` are let go. */
bool kv_sessions_admit(struct kv_sessions *sessions, uint64_t index, const struct kv_command *command,
		       struct kv_session **ret_session, struct kv_reply *ret_reply);
void kv_sessions_complete(struct kv_sessions *sessions, struct kv_session *session, const struct kv_reply *reply);

/* What a snapshot keeps of a session. */
struct kv_session_image {
	uint64_t id;
	uint64_t last;
	uint64_t acknowledged;
	uint64_t used;
	struct kv_ring *ring; /* a reference of its own; NULL when no reply is kept */
};
static inline uint64_t kv_session_image_kept(const struct kv_session_image *image)
{
	return image->last + 1 - image->acknowledged;
}

/* Fills `sessions->count` images, in the order of use, the oldest first. Copies no reply: a ring is shared until its
 * session keeps the next one. */
void kv_sessions_copy(const struct kv_sessions *sessions, struct kv_session_image *images);
void kv_session_images_drop(struct kv_session_image *images, uint32_t count);

bool kv_sessions_know(const struct kv_sessions *sessions, uint64_t id);
/* Makes a session of an image, used later than all that are there, and takes over its ring. The id is not known yet
 * and the table is not full. False: no memory, and nothing was taken. */
bool kv_sessions_restore(struct kv_sessions *sessions, const struct kv_session_image *image)
	__attribute__((warn_unused_result));

/* Aborts when the order, the counts or the hash are wrong. For tests. */
void kv_sessions_check(const struct kv_sessions *sessions);

#endif
