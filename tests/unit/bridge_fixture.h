/*
 * A raft-bridge process between pretended members and clients of the test. All members share one store, as if
 * replication were perfect; what each answers is up to the test. Everything runs in the test's one thread, whenever
 * it waits.
 */
#ifndef RAFT_KV_TESTS_BRIDGE_FIXTURE_H
#define RAFT_KV_TESTS_BRIDGE_FIXTURE_H

#include "daemon/transport/zmq_socket.h"
#include "kv/request.h"
#include "kv/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FAKE_MEMBERS 3u
#define WAIT_MS 10000

struct fake_member {
	struct zmq_socket *socket; /* NULL: it does not run */
	bool leads;
	uint64_t term;
	bool silent;	       /* takes nothing in, like a stopped process */
	bool withholds_writes; /* takes writes and neither applies nor answers them */
	bool loses_replies;    /* does what it is asked, and tells nobody */
	bool loses_leadership; /* appends writes, then answers that it does not know */
	bool drops_appended;   /* with the above: they will never be applied */
	unsigned busy_every;   /* every so many writes are refused as busy; 0: none */
	uint8_t refuse_reads;  /* enum kv_answer instead of a value; 0: none */
	uint64_t n_writes;     /* taken in */
	uint64_t n_probes;
};

struct fixture {
	char dir[64];
	char config_path[96];
	char socket_path[96];
	pid_t bridge;
	struct zmq_context *context;
	struct kv_store *store;
	uint64_t index;
	uint64_t cluster;
	struct kv_frame frame;
	struct fake_member members[FAKE_MEMBERS];
};

/* Starts the members and the bridge: [bridge] keys as given. Member 1 leads in term 1. */
void fixture_start(struct fixture *fixture, const char *bridge_keys);
void fixture_stop(struct fixture *fixture);

void fixture_open_member(struct fixture *fixture, unsigned k);
void fixture_close_member(struct fixture *fixture, unsigned k);
/* The member leads in a term of its own, the others do not. */
void fixture_elect(struct fixture *fixture, unsigned k);
void fixture_depose_all(struct fixture *fixture);

/* One round of the members' work, waiting at most so long for anything. */
void fixture_pump(struct fixture *fixture, int wait_ms);

/* Clients */
int fixture_connect(struct fixture *fixture);
void fixture_send(struct fixture *fixture, int fd, const char *data, size_t size);
void fixture_say(struct fixture *fixture, int fd, const char *text);
/* The next line, without its newline, from malloc; NULL: the end of the connection. */
char *fixture_read_line(struct fixture *fixture, int fd, size_t *ret_size);
void fixture_expect(struct fixture *fixture, int fd, const char *line);	       /* exactly */
void fixture_expect_start(struct fixture *fixture, int fd, const char *start); /* begins with */
void fixture_expect_end(struct fixture *fixture, int fd);

int64_t fixture_now_ms(void);
size_t fixture_bridge_rss(const struct fixture *fixture); /* bytes */
/* Fails when the bridge uses more; under a sanitizer, which keeps what is freed, it says nothing. */
void fixture_expect_rss(const struct fixture *fixture, size_t max);
/* Waits for the bridge to end and returns its exit code; -1: killed. */
int fixture_wait_bridge(struct fixture *fixture);

#endif
