/* Milliseconds on the clock that never jumps.  The only clock of the bridge. */
#ifndef RAFT_KV_BRIDGE_CLOCK_H
#define RAFT_KV_BRIDGE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#endif
