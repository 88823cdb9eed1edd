/*
 * The limits of the store, in one place, each with its reason. They are part of the replicated state machine:
 * every member must have the same, so they are constants and not configuration.
 */
#ifndef KV_LIMITS_H
#define KV_LIMITS_H

#include <stdint.h>

#define KV_KEY_SIZE_MAX 1024u		  /* a key is a name; longer ones belong in the value */
#define KV_VALUE_SIZE_MAX (1024u * 1024u) /* one entry fits one flush and one frame with room to spare */
#define KV_SESSIONS_MAX 4096u		  /* registered clients (bridges); beyond, the least recently used expires */
#define KV_SESSION_WINDOW 65536u	  /* unacknowledged requests of one session whose replies are kept */

/* A revision is kept in 56 bits: at ten million entries a second that is enough for two centuries. */
#define KV_REVISION_MAX ((UINT64_C(1) << 56) - 1)

#endif
