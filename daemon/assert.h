/*
 * raft_assert: states an invariant of the program, in every build, release included.
 *
 * A broken invariant must never become a wrong answer to a client: the process stops, says where, and
 * systemd starts it again.  This header knows nothing of logging or of any module, so that the pure ones
 * (kv, raft, the codecs) can use it.
 */
#ifndef RAFT_KV_ASSERT_H
#define RAFT_KV_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

#define raft_assert(expr)                                                                                              \
	do {                                                                                                           \
		if (__builtin_expect(!(expr), 0)) {                                                                    \
			fprintf(stderr, "<2>%s:%d: %s: invariant broken: %s\n", __FILE__, __LINE__, __func__, #expr);  \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

#endif
